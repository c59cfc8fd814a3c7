"""Random search in rounds of doubling size, as in tt-scale-flux.

Ma et al. (2025), "Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps",
arXiv 2501.09732, call it random search: draw noises, render them, and keep the best.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.search.parameters import STRICT
from eacps.search.roundwise import RoundwiseStrategy, Search


@dataclass(frozen=True, config=STRICT)
class RandomRoundsParams:
    """Parameters of `random`."""

    rounds: Annotated[
        int, Field(ge=1, le=18, description="rounds; round r draws 2^r fresh noises")
    ] = 3

    @property
    def budget(self) -> int:
        """The number of candidates: 2 + 4 + ... + 2^R = 2^(R+1) - 2."""
        return (2 << self.rounds) - 2

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for at most this number of candidates."""
        return {"rounds": max(1, (budget + 2).bit_length() - 2)}


class RandomRounds(RoundwiseStrategy[RandomRoundsParams]):
    """Rounds 1 to R draw fresh pools of 2, 4, ... 2^R noises; the best of all rounds wins.

    >>> search = RandomRounds(RandomRoundsParams(rounds=2), seed=7)
    >>> [(trial.id, trial.round) for trial in search.ask()]
    [('c1', 1), ('c2', 1), ('c3', 2), ('c4', 2), ('c5', 2), ('c6', 2)]
    """

    Params: ClassVar[type[RandomRoundsParams]] = RandomRoundsParams

    def search(self) -> Search[None]:
        """Ask for all rounds at once, because none depends on another and batches stay full."""
        yield [
            trial
            for round_number in range(1, self.params.rounds + 1)
            for trial in self.fresh_trials(2**round_number, round_number=round_number)
        ]
