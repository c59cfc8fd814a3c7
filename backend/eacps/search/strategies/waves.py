"""Waves: repeats successive halving until a result is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from eacps.domain import Outcome
from eacps.search import pruning
from eacps.search.parameters import STRICT, Highest, Lowest, PairwiseElites, Rungs, require_less
from eacps.search.quality import quality
from eacps.search.ranking import best
from eacps.search.roundwise import RoundwiseStrategy, Search


@dataclass(frozen=True, config=STRICT)
class WavesParams:
    """Parameters of `waves`."""

    stops_early: ClassVar[bool] = True

    n: Annotated[
        int,
        Field(ge=1, le=100_000, description="candidates that begin in a wave, from fresh noises"),
    ] = 8
    waves: Annotated[int, Field(ge=1, le=1000, description="most waves")] = 4
    rungs: Annotated[
        Rungs, Field(description="how a wave is pruned by previews, in pairs as in `halving`")
    ] = ((0.4, 2), (0.6, 1))
    pairwise_elites: PairwiseElites = 0
    good: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="no other wave begins once a result has this quality: the weakest of a "
            "verifier's answers, or else the potential between lowest and highest",
        ),
    ] = 0.85
    lowest: Lowest = 4.0
    highest: Highest = 10.5

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_less(lowest=self.lowest, highest=self.highest)
        return self

    @property
    def budget(self) -> int:
        """The most trials that the search begins."""
        return self.n * self.waves

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for at most this number of candidates."""
        waves = min(self.waves, budget)
        return {"waves": waves, "n": budget // waves}

    def cost(self, steps: int) -> float:
        """The most that the search costs in full renders when nothing fails."""
        return self.waves * pruning.cost(self.n, self.rungs, steps)


class Waves(RoundwiseStrategy[WavesParams]):
    """Halving in waves: easy tasks end after the first, hard ones get what these have saved.

    >>> from eacps.domain import Outcome
    >>> search = Waves(WavesParams(n=2, waves=3, rungs=((0.5, 1),)), seed=7, steps=12)
    >>> worth = {"c4": 0.9}
    >>> while trials := search.ask():
    ...     print([(trial.id, trial.to_step) for trial in trials])
    ...     answers = [{"satisfied": worth.get(trial.id, 0.1)} for trial in trials]
    ...     pairs = zip(trials, answers, strict=True)
    ...     search.tell([Outcome(trial, each["satisfied"], each) for trial, each in pairs])
    [('c1', 6), ('c2', 6)]
    [('c1', None)]
    [('c3', 6), ('c4', 6)]
    [('c4', None)]
    """

    Params: ClassVar[type[WavesParams]] = WavesParams

    def search(self) -> Search[None]:
        """Run one wave after another until a result is good."""
        params = self.params
        results: list[Outcome] = []
        for number in range(1, params.waves + 1):
            begun = pruning.start_all(self.fresh_trials(params.n, round_number=number))
            results += yield from pruning.successive_halving(
                begun, params.rungs, self.steps, self.note, self._settle
            )
            leader = best(results)
            if leader is None:
                return
            value = quality(leader, params.lowest, params.highest)
            if value >= params.good:
                self.note(
                    f"Stopped after {number} of {params.waves} waves: {leader.trial.id}'s quality "
                    f"is {value:.2f}, at least {params.good:g}."
                )
                return

    def _settle(self, best_first: Sequence[Outcome], keep: int) -> Search[list[Outcome]]:
        return self.settled(best_first, keep, self.params.pairwise_elites)
