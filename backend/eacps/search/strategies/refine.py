"""Refine: append a critique of the best attempt to the instruction, and edit again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from eacps.domain import Noise, Outcome, Trial
from eacps.search.criticism import BEGINS, INSTANCE, LENGTH, criticism
from eacps.search.moves import annealed
from eacps.search.parameters import (
    STRICT,
    Angle,
    AngleDecay,
    AtLeast,
    AtMost,
    Highest,
    Lowest,
    Moves,
    require_at_most,
    require_less,
)
from eacps.search.quality import Thresholds, answers, missed_thresholds, quality
from eacps.search.ranking import best
from eacps.search.roundwise import RoundwiseStrategy, Search

# Short, because text encoders cut long instructions off.
COMPLAINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Carry it out fully.": ("satisfied", "pf", "pf_dir", "caption"),
    "Change nothing else.": ("preserved", "cons", "lpips", "region"),
    "Keep the image clean.": ("intact", "aesthetic"),
}
NO_THRESHOLDS: Final[Thresholds] = {}
Threshold = Annotated[float, Field(ge=0, le=1)]


def critique(
    scores: Mapping[str, float],
    low: float = 0.85,
    at_least: Thresholds = NO_THRESHOLDS,
    at_most: Thresholds = NO_THRESHOLDS,
) -> str:
    """One sentence for the editor about each flaw that an answer or a metric finds.

    >>> critique({"satisfied": 0.9, "preserved": 0.1, "intact": 0.4})
    'Change nothing else. Keep the image clean.'
    >>> critique({"pf": 0.2, "lpips": 0.1}, at_least={"pf": 0.3}, at_most={"lpips": 0.2})
    'Carry it out fully.'
    >>> critique({"pf": 0.2})
    ''
    """
    wrong = flaws(scores, low, at_least, at_most)
    return " ".join(words for words, names in COMPLAINTS.items() if wrong & set(names))


def flaws(
    scores: Mapping[str, float],
    low: float,
    at_least: Thresholds = NO_THRESHOLDS,
    at_most: Thresholds = NO_THRESHOLDS,
) -> set[str]:
    """The answers that are too low, and the metrics that miss their thresholds."""
    wrong = {name for name, answer in answers(scores).items() if answer < low}
    # `missed_thresholds` counts absent scores, but those say nothing about the image.
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    return wrong | (known.keys() & set(missed_thresholds(known, at_least, at_most)))


@dataclass(frozen=True, config=STRICT)
class RefineParams:
    """Parameters of `refine`."""

    stops_early: ClassVar[bool] = True

    n: Annotated[int, Field(ge=1, le=1000, description="first attempts, from fresh noises")] = 2
    max_steps: Annotated[int, Field(ge=1, le=1000, description="re-edits of the best")] = 3
    per_step: Annotated[int, Field(ge=1, le=1000, description="attempts at each re-edit")] = 2
    tau_low: Annotated[
        Threshold,
        Field(description="below this quality the critique is appended to the instruction"),
    ] = 0.85
    tau_high: Annotated[Threshold, Field(description="from this quality on the search stops")] = (
        0.95
    )
    critic: Annotated[
        Literal["fixed", "judge", "none"],
        Field(
            description="whose words the critique is: `fixed` sentences for what is wrong, or the "
            f"`judge`'s reasons for its low answers, in at most {LENGTH} characters; `none`: there "
            "is no critique, for editors that cannot be told more than the instruction"
        ),
    ] = "fixed"
    edits: Annotated[
        Literal["source", "best"],
        Field(
            description="what is edited again: the task's picture, or the `best` edit so far, "
            "unless it changed what it should have kept"
        ),
    ] = "source"
    moves: Moves = "noise"
    angle: Angle = 0.4
    angle_decay: AngleDecay = 0.5
    at_least: AtLeast = Field(default_factory=dict)
    at_most: AtMost = Field(default_factory=dict)
    lowest: Lowest = 4.0
    highest: Highest = 10.5

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_at_most(tau_low=self.tau_low, tau_high=self.tau_high)
        require_less(lowest=self.lowest, highest=self.highest)
        return self

    @property
    def budget(self) -> int:
        """The most trials that the search begins."""
        return self.n + self.max_steps * self.per_step

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for at most this number of candidates: a quarter of them first attempts."""
        first = max(1, budget // 4)
        attempts = max(1, min(self.per_step, budget - first))
        steps = max(1, (budget - first) // attempts)
        return {"n": max(1, budget - steps * attempts), "max_steps": steps, "per_step": attempts}


class Refine(RoundwiseStrategy[RefineParams]):
    """The best attempt is edited again, its critique appended to the instruction, until it is good.

    >>> from eacps.domain import Outcome
    >>> search = Refine(RefineParams(n=2, per_step=1), seed=7)
    >>> for preserved in (0.1, 0.9, 1.0):
    ...     trials = search.ask()
    ...     print([trial.instruction_suffix for trial in trials])
    ...     scores = {"satisfied": 0.99, "preserved": preserved}
    ...     search.tell([Outcome(trial, preserved, scores) for trial in trials])
    ['', '']
    ['Change nothing else.']
    ['Change nothing else.']
    >>> search.ask(), search.notes[-1]
    ([], "Stopped: c4's quality is 0.99, at least 0.95.")
    """

    Params: ClassVar[type[RefineParams]] = RefineParams
    _too_long = False

    def search(self) -> Search[None]:
        """Edit the best attempt again until it is good or `max_steps` are used up.

        Below `tau_low` the instruction gets a new critique; between the thresholds it stays as it
        is, and only the noise moves.
        """
        params = self.params
        seen = yield self.fresh_trials(params.n)
        for step in range(1, params.max_steps + 1):
            leader = best(seen)
            if leader is None or self._is_good(leader):
                return
            suffix = self._suffix(leader)
            angle = annealed(params.angle, params.angle_decay, step - 1)
            again = self._edits_best(leader)
            outcomes = yield [
                self._following(leader.trial, angle, step, suffix, again=again)
                for _ in range(params.per_step)
            ]
            self._hear(suffix, outcomes)
            seen = [leader, *outcomes]

    def _following(
        self, leader: Trial, angle: float, step: int, suffix: str, *, again: bool
    ) -> Trial:
        if again:
            noise = Noise(self.seeds.fresh())
            return self.trial(
                noise, stage="local", round_number=step, parent=leader, suffix=suffix, again=True
            )
        moves = self.params.moves
        return self.child(leader, moves=moves, angle=angle, round_number=step, suffix=suffix)

    def _edits_best(self, leader: Outcome) -> bool:
        """Whether to go on from the best edit: no further one brings back what it lost."""
        kept = leader.scores.get("preserved", 1.0)
        return self.params.edits == "best" and not _is_low(kept, self.params.tau_low)

    def _is_good(self, leader: Outcome) -> bool:
        value, enough = self._quality(leader), self.params.tau_high
        if value < enough:
            return False
        self.note(f"Stopped: {leader.trial.id}'s quality is {value:.2f}, at least {enough:g}.")
        return True

    def _suffix(self, leader: Outcome) -> str:
        params = self.params
        value = self._quality(leader)
        suffix = leader.trial.instruction_suffix
        if value < params.tau_low and params.critic != "none":
            suffix = self._critique(leader)
        how = f"with the critique: {suffix}" if suffix else "with the same instruction."
        self.note(f"{leader.trial.id}'s quality is {value:.2f}; edited again {how}")
        return suffix

    def _critique(self, leader: Outcome) -> str:
        params = self.params
        limits = (params.tau_low, params.at_least, params.at_most)
        if params.critic == "judge" and not self._too_long:
            wrong = flaws(leader.scores, *limits)
            if _is_low(leader.scores.get(INSTANCE, math.nan), params.tau_low):
                wrong.add(INSTANCE)
            words = criticism(leader.scores, leader.reasons, wrong)
            if words:
                return words
        return critique(leader.scores, *limits)

    def _hear(self, suffix: str, outcomes: Sequence[Outcome]) -> None:
        """Use fixed words from now on if every edit with the judge's words failed: an editor
        refuses an instruction that it would have to cut off."""
        if suffix.startswith(BEGINS) and not any(outcome.usable for outcome in outcomes):
            self._too_long = True
            self.note("No edit with the judge's words succeeded: fixed ones from now on.")

    def _quality(self, leader: Outcome) -> float:
        return quality(leader, self.params.lowest, self.params.highest)


def _is_low(value: float, low: float) -> bool:
    return math.isfinite(value) and value < low
