"""What people ask for while they look at candidates: more of them, children of some, the rest of a
preview.

These strategies begin with noises of earlier searches, or avoid them. So they cannot be chosen for
a whole backend by EACPS_STRATEGY: the review panel plans them (labelstudio/steering). The parents
of their trials are candidates of earlier searches, named by the ids of their cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.domain import Noise, Outcome, Trial
from eacps.search import pruning
from eacps.search.parameters import STRICT, Angle
from eacps.search.protocol import StrategyClass
from eacps.search.roundwise import RoundwiseStrategy, Search
from eacps.search.seeds import Seeds
from eacps.search.strategies.auto import CANNOT_PAUSE

MOST = 64
"""Candidates, or picks, of one request: more cannot be looked at."""

Used = Annotated[
    tuple[int, ...],
    Field(strict=False, max_length=1_000_000, description="seeds that no trial may have"),
]
Suffix = Annotated[
    str, Field(max_length=4000, description="words after the instruction, for the editor alone")
]


# Not strict: strict dataclasses cannot be read from JSON, as part of others.
@dataclass(frozen=True, config={**STRICT, "strict": False})
class Pick:
    """A candidate of an earlier search: the id of its card, and its recipe.

    `stopped_at` is the step at which a preview was stopped, or None to begin with its noise;
    `start` is the picture that it edits, if that is not the task's.
    """

    id: str
    noise: Noise
    suffix: Suffix = ""
    stopped_at: int | None = None
    start: Annotated[str, Field(max_length=200, exclude_if=lambda start: not start)] = ""


Picks = Annotated[
    tuple[Pick, ...],
    Field(strict=False, min_length=1, max_length=MOST, description="candidates of other searches"),
]


@dataclass(frozen=True, config=STRICT)
class MoreParams:
    """Parameters of `more`."""

    n: Annotated[int, Field(ge=1, le=MOST, description="candidates, each from fresh noise")]
    used: Used = ()
    suffix: Suffix = ""

    @property
    def budget(self) -> int:
        """The number of candidates."""
        return self.n


class More(RoundwiseStrategy[MoreParams]):
    """Candidates from fresh noises, none of which an earlier search has used.

    >>> [trial.noise.seed for trial in More(MoreParams(n=2), seed=7).ask()]
    [1339181438, 1779727153]
    >>> search = More(MoreParams(n=2, used=(1339181438,)), seed=7)
    >>> [(trial.id, trial.noise.seed) for trial in search.ask()]
    [('c1', 1779727153), ('c2', 737599970)]
    """

    Params: ClassVar[type[MoreParams]] = MoreParams

    def search(self) -> Search[None]:
        """Ask for all candidates in one round."""
        self.seeds = Seeds(self.seeds.root, self.params.used)
        yield [
            self.trial(Noise(self.seeds.fresh()), suffix=self.params.suffix)
            for _ in range(self.params.n)
        ]


@dataclass(frozen=True, config=STRICT)
class ChildrenParams:
    """Parameters of `children`."""

    picks: Picks
    per_pick: Annotated[int, Field(ge=1, le=MOST, description="children of each pick")] = 4
    angle: Angle = 0.4
    used: Used = ()
    suffix: Suffix = ""

    @property
    def budget(self) -> int:
        """The number of children."""
        return len(self.picks) * self.per_pick


class Children(RoundwiseStrategy[ChildrenParams]):
    """A local round of `eacps` around candidates that a person has picked as the elites.

    Words (`suffix`) are appended to those that a pick had already.

    >>> picks = (Pick("c7-3f2a9c", Noise(5)), Pick("c1-3f2a9c", Noise(6), "more red"))
    >>> search = Children(ChildrenParams(picks, per_pick=1, suffix="smaller"), seed=7)
    >>> for trial in search.ask():
    ...     print(trial.id, trial.noise.seed, trial.lineage)
    c1 5 child of c7-3f2a9c at angle 0.4, told: smaller
    c2 6 child of c1-3f2a9c at angle 0.4, told: more red smaller
    """

    Params: ClassVar[type[ChildrenParams]] = ChildrenParams

    def search(self) -> Search[None]:
        """Ask for the children of all picks in one round; siblings follow each other."""
        params = self.params
        self.seeds = Seeds(self.seeds.root, params.used)
        yield [
            picked(
                self,
                pick,
                pick.noise.moved(params.angle, self.seeds.fresh()),
                " ".join(filter(None, (pick.suffix, params.suffix))),
            )
            for pick in params.picks
            for _ in range(params.per_pick)
        ]


@dataclass(frozen=True, config=STRICT)
class FinishParams:
    """Parameters of `finish`."""

    picks: Picks

    @property
    def budget(self) -> int:
        """The number of candidates; where pausing fails, a pick is begun a second time."""
        return len(self.picks)


class Finish(RoundwiseStrategy[FinishParams]):
    """Previews that were stopped early, rendered to the end.

    Each is asked for at the step where it was stopped, and resumed there: if its state is still
    stored, only the remaining steps are rendered. An editor that cannot pause begins it anew.

    >>> picks = (Pick("c3-3f2a9c", Noise(5), stopped_at=4), Pick("c9-3f2a9c", Noise(6)))
    >>> search = Finish(FinishParams(picks), steps=12)
    >>> while trials := search.ask():
    ...     print([(trial.id, trial.noise.seed, trial.to_step) for trial in trials])
    ...     search.tell([Outcome(trial, 1.0) for trial in trials])
    [('c1', 5, 4), ('c2', 6, None)]
    [('c1', 5, None)]
    """

    Params: ClassVar[type[FinishParams]] = FinishParams

    def search(self) -> Search[None]:
        """Ask for all previews, then for the rest of each."""
        begun = [self._begun(pick) for pick in self.params.picks]
        seen = yield begun
        yield [
            *pruning.advanced(_paused(seen), None),
            # Under new ids: a trial that failed is never asked for again.
            *(
                self._begun(pick, anew=True)
                for pick, outcome in zip(self.params.picks, seen, strict=True)
                if outcome.failure is not None and outcome.failure.code == CANNOT_PAUSE
            ),
        ]

    def _begun(self, pick: Pick, *, anew: bool = False) -> Trial:
        trial = picked(self, pick, pick.noise, pick.suffix)
        at = pick.stopped_at
        paused = not anew and at is not None and 1 <= at < self.steps
        return pruning.advanced([trial], at if paused else None)[0]


def picked(search: RoundwiseStrategy[Any], pick: Pick, noise: Noise, suffix: str) -> Trial:
    """A trial whose parent is a candidate of another search, and which edits the same picture."""
    parent = Trial(pick.id, pick.noise)
    trial = search.trial(noise, stage="local", round_number=1, parent=parent, suffix=suffix)
    return replace(trial, start=pick.start)


def _paused(outcomes: Sequence[Outcome]) -> list[Trial]:
    return [each.trial for each in outcomes if each.usable and each.trial.to_step is not None]


STRATEGIES: Final[Mapping[str, StrategyClass]] = {
    "more": More,
    "children": Children,
    "finish": Finish,
}
