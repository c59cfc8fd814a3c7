"""Random search in doubling rounds, as in Ma et al. (arXiv 2501.09732) and tt-scale-flux."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.search.parameters import STRICT
from eacps.search.roundwise import RoundwiseStrategy, Search


@dataclass(frozen=True, config=STRICT)
class RandomRoundsParams:
    """Settings of `random`."""

    rounds: Annotated[
        int, Field(ge=1, le=18, description="rounds; round r draws 2^r fresh noises")
    ] = 3

    @property
    def budget(self) -> int:
        """How many trials these settings use when nothing fails."""
        return (2 << self.rounds) - 2


class RandomRounds(RoundwiseStrategy[RandomRoundsParams]):
    """Rounds 1 to R draw fresh pools of 2, 4, ... 2^R noises; the best of all rounds wins.

    >>> search = RandomRounds(RandomRoundsParams(rounds=2), seed=7)
    >>> [(trial.id, trial.round) for trial in search.ask()]
    [('c1', 1), ('c2', 1), ('c3', 2), ('c4', 2), ('c5', 2), ('c6', 2)]
    """

    Params: ClassVar[type[RandomRoundsParams]] = RandomRoundsParams

    def search(self) -> Search[None]:
        """No round depends on another, so all are asked at once and fill whole batches."""
        yield [
            trial
            for round_number in range(1, self.params.rounds + 1)
            for trial in self.fresh_trials(2**round_number, round_number=round_number)
        ]
