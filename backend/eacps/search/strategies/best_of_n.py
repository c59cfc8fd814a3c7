"""Best of N: independent attempts, of which the best wins. The baseline of every comparison."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.search.parameters import STRICT
from eacps.search.roundwise import RoundwiseStrategy, Search


@dataclass(frozen=True, config=STRICT)
class BestOfNParams:
    """Parameters of `best_of_n`."""

    n: Annotated[
        int, Field(ge=1, le=1_000_000, description="candidates, each from fresh noise")
    ] = 8

    @property
    def budget(self) -> int:
        """The number of candidates."""
        return self.n

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for this number of candidates."""
        return {"n": budget}


class BestOfN(RoundwiseStrategy[BestOfNParams]):
    """N candidates from independent noises; the best one wins.

    >>> from eacps.domain import Outcome
    >>> from eacps.search import best
    >>> search = BestOfN(BestOfNParams(n=3), seed=7)
    >>> outcomes = [Outcome(trial, potential=-trial.noise.seed) for trial in search.ask()]
    >>> search.tell(outcomes)
    >>> search.ask()
    []
    >>> best(outcomes).trial.id
    'c3'
    """

    Params: ClassVar[type[BestOfNParams]] = BestOfNParams

    def search(self) -> Search[None]:
        """Ask for all candidates in one round."""
        yield self.fresh_trials(self.params.n)
