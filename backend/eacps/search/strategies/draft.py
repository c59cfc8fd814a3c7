"""Draft: many noises in few steps, of which the best few are rendered in full."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from eacps.domain import Outcome
from eacps.search import pruning
from eacps.search.parameters import (
    STRICT,
    DuplicateSimilarity,
    Highest,
    Lowest,
    PairwiseElites,
    Share,
    require_at_most,
    require_less,
)
from eacps.search.quality import quality
from eacps.search.ranking import ranked
from eacps.search.roundwise import RoundwiseStrategy, Search

LEAST_STEPS = 2


@dataclass(frozen=True, config=STRICT)
class DraftParams:
    """Parameters of `draft`."""

    stops_early: ClassVar[bool] = True

    n: Annotated[int, Field(ge=1, le=1_000_000, description="drafts, each from fresh noise")] = 16
    share: Annotated[
        Share, Field(description="the steps of a draft, as a share of those of a full render")
    ] = 0.3
    finish: Annotated[
        int, Field(ge=1, le=1_000_000, description="how many of the best are rendered in full")
    ] = 2
    good: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="if a draft's quality is above this, nothing is rendered in full; the "
            "quality is the weakest of a verifier's answers, or else the potential between lowest "
            "and highest",
        ),
    ] = 1.0
    duplicate_similarity: DuplicateSimilarity = 1.0
    pairwise_elites: PairwiseElites = 0
    lowest: Lowest = 4.0
    highest: Highest = 10.5

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_at_most(finish=self.finish, n=self.n)
        require_less(lowest=self.lowest, highest=self.highest)
        return self

    @property
    def budget(self) -> int:
        """The number of drafts."""
        return self.n

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for this number of candidates."""
        return {"n": budget, "finish": min(self.finish, budget)}

    def drafted(self, steps: int) -> int:
        """The steps of a draft; 0 where a full render has too few for that."""
        return 0 if steps <= LEAST_STEPS else max(LEAST_STEPS, pruning.step_at(self.share, steps))

    def cost(self, steps: int) -> float:
        """The cost of the search in full renders when nothing fails."""
        drafted = self.drafted(steps)
        return self.n * drafted / steps + self.finish if drafted else float(self.n)


class Draft(RoundwiseStrategy[DraftParams]):
    """Many noises are drafted in few steps; the best few of them are rendered again in full.

    >>> from eacps.domain import Outcome
    >>> search = Draft(DraftParams(n=4, finish=1), seed=7, steps=10)
    >>> for _ in range(2):
    ...     trials = search.ask()
    ...     print([(trial.id, trial.to_step, trial.draft) for trial in trials])
    ...     search.tell([Outcome(trial, potential=int(trial.id[1:])) for trial in trials])
    [('c1', 3, True), ('c2', 3, True), ('c3', 3, True), ('c4', 3, True)]
    [('c4', None, False)]
    >>> search.notes
    ('Drafts in 3 of 10 steps: c4 of 4 are rendered in full.',)
    """

    Params: ClassVar[type[DraftParams]] = DraftParams

    def search(self) -> Search[None]:
        """Draft all, then render the best in full, and others in place of those that fail."""
        params = self.params
        drafted = params.drafted(self.steps)
        trials = self.fresh_trials(params.n)
        if not drafted:
            yield trials
            return
        drafts = yield [replace(trial, to_step=drafted, draft=True) for trial in trials]
        usable = ranked(drafts)
        if not usable or self._is_good(usable[0]):
            return
        order = pruning.without_duplicates(usable, params.duplicate_similarity, self.note)
        settled = yield from self.settled(order.eligible, params.finish, params.pairwise_elites)
        kept = settled[: params.finish]
        names = pruning.list_ids(kept)
        how = f"Drafts in {drafted} of {self.steps} steps"
        self.note(f"{how}: {names} of {params.n} are rendered in full.")
        # Where that fails, the draft remains.
        yield [replace(outcome.trial, to_step=None, draft=False) for outcome in kept]

    def _is_good(self, leader: Outcome) -> bool:
        value, good = quality(leader, self.params.lowest, self.params.highest), self.params.good
        if value <= good:
            return False
        self.note(
            f"Nothing was rendered in full: the draft {leader.trial.id}'s quality is {value:.2f}, "
            f"above {good:g}."
        )
        return True
