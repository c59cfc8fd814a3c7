"""Successive halving: many candidates begin, and their previews decide which ones go on."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.search import pruning
from eacps.search.parameters import STRICT, Rungs
from eacps.search.roundwise import RoundwiseStrategy, Search


@dataclass(frozen=True, config=STRICT)
class HalvingParams:
    """Parameters of `halving`."""

    n: Annotated[
        int, Field(ge=1, le=1_000_000, description="candidates that begin, from fresh noises")
    ] = 8
    rungs: Annotated[
        Rungs,
        Field(
            description="pairs of the share of the steps and how many go on from there, the best "
            "previews first; at 1.0: how many usable results there must be, "
            "or pruned candidates come back"
        ),
    ] = ((0.3, 4), (0.6, 2), (1.0, 1))

    @property
    def budget(self) -> int:
        """The number of candidates that begin."""
        return self.n

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for this number of candidates."""
        return {"n": budget}

    def cost(self, steps: int) -> float:
        """The cost of the search in full renders when nothing fails."""
        return pruning.cost(self.n, self.rungs, steps)


class Halving(RoundwiseStrategy[HalvingParams]):
    """N candidates from independent noises begin; at every rung the best previews go on.

    >>> from eacps.domain import Outcome
    >>> search = Halving(HalvingParams(n=4, rungs=((0.5, 2),)), seed=7, steps=12)
    >>> for _ in range(2):
    ...     trials = search.ask()
    ...     print([(trial.id, trial.to_step) for trial in trials])
    ...     search.tell([Outcome(trial, potential=int(trial.id[1:])) for trial in trials])
    [('c1', 6), ('c2', 6), ('c3', 6), ('c4', 6)]
    [('c4', None), ('c3', None)]
    >>> search.notes
    ('Step 6: c4, c3 of 4 previews went on.',)
    """

    Params: ClassVar[type[HalvingParams]] = HalvingParams

    def search(self) -> Search[None]:
        """Begin all candidates in one round, then prune them rung by rung."""
        start = pruning.start_all(self.fresh_trials(self.params.n))
        yield from pruning.successive_halving(start, self.params.rungs, self.steps, self.note)
