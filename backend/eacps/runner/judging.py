"""Turns pictures into candidates with the metrics of all scorers and a potential."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf
from typing import TYPE_CHECKING, Any, Final

from eacps import metrics, tracing
from eacps.domain import JUDGE_DOWN, Candidate, EditTask, Failure, Metric, Trial
from eacps.errors import JudgeDownError
from eacps.images import TaskImages
from eacps.preparing import Kept, KeptInMemory, Prepared
from eacps.runner.potentials import potential_of
from eacps.runner.rendering import Rendered, StoredImage
from eacps.scoring.potential import Potential
from eacps.scoring.protocol import (
    CAPTION,
    Comparing,
    Explaining,
    Matching,
    Preferring,
    Preparing,
    Reasoning,
)
from eacps.search.comparing import PREFERENCE
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.scoring import Scorer

log = logging.getLogger(__name__)

NEAREST: Final = "nearest_similarity"
MISSING: Final = " missing: "
"""Between the metrics of a scorer that failed and the reason, in a candidate's notes."""


@dataclass
class _Judged:
    """The scores and reasons for one picture so far."""

    scores: dict[str, float] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class _Told:
    """What is said about all pictures of a batch: notes on what is missing, why no judge could be
    asked, and what judges prepared for the task."""

    notes: list[str] = field(default_factory=list)
    away: str = ""
    prepared: Prepared = field(default_factory=Prepared)


class Judge:
    """The scorers of one device, and the potential that combines their metrics."""

    def __init__(
        self,
        scorers: Sequence[Scorer],
        potential: Potential,
        settings: Settings,
        kept: Kept | None = None,
    ) -> None:
        self._scorers = scorers
        self._potential = potential
        self._settings = settings
        self._kept = KeptInMemory() if kept is None else kept

    def leaves_device(self, task: EditTask) -> bool:
        """Whether servers judge this task, and no scorer needs the device."""
        if not any(map(_waits, self._scorers)):
            return False
        return not any(_needs_device(one, task) for one in self._scorers)

    def candidates(
        self,
        task: EditTask,
        start: TaskImages,
        rendered: Sequence[Rendered],
        let_go: Callable[[], None] = lambda: None,
    ) -> list[Candidate]:
        """Return one candidate per trial, in order. `let_go` is called as soon as only servers are
        waited for, and the device is needed no longer."""
        if rendered and all(one.trial.stage == "final" for one in rendered):
            return self._finalists(task, start, rendered, let_go)
        whole = [one for one in rendered if one.stored]
        likeness = self._likeness(whole)
        with tracing.span("score", candidates=len(whole)):
            judged, told = self._judged(task, start, whole, let_go)
        self._add_likeness(task, likeness, judged)
        waiting = iter(judged)
        return [
            self._candidate(task, one, one.stored, next(waiting), told)
            if one.stored
            else _failed(one)
            for one in rendered
        ]

    def _finalists(
        self,
        task: EditTask,
        start: TaskImages,
        rendered: Sequence[Rendered],
        let_go: Callable[[], None],
    ) -> list[Candidate]:
        """Candidates with their strength in a tournament, or with the reason why there is none."""
        found: Sequence[tuple[float, str]] = [(0.0, "")] * len(rendered)
        note = ""
        preferring = next((one for one in self._scorers if isinstance(one, Preferring)), None)
        images = [one.stored.image for one in rendered if one.stored]
        if preferring is None or len(images) < len(rendered):
            note = "no judge can compare them."
        else:
            if _waits(preferring):
                let_go()
            try:
                found = preferring.preferences(task, start, images)
            except Exception as error:
                log.warning("the finals failed: %s", error)
                note = str(error)[:300]
        return [
            Candidate(
                one.trial,
                image=one.stored.picture.image if one.stored else None,
                metrics=() if note else (_preference(strength),),
                notes=(note,) if note else (),
                why=why,
            )
            for one, (strength, why) in zip(rendered, found, strict=True)
        ]

    def _judged(
        self,
        task: EditTask,
        start: TaskImages,
        rendered: Sequence[Rendered],
        let_go: Callable[[], None],
    ) -> tuple[list[_Judged], _Told]:
        """What was measured, and what is said about it."""
        judged = [_Judged() for _ in rendered]
        told = _Told()
        match = self._matching(rendered)
        # Those that need the device first, so that the next batch can have it.
        for scorer in sorted(self._scorers, key=_waits) if rendered else ():
            name = type(scorer).__name__
            if _waits(scorer):
                let_go()
            try:
                with metrics.SCORE_SECONDS.labels(name).time():
                    if isinstance(scorer, Preparing):
                        told.prepared = scorer.prepare(task, start, self._kept)
                    rows = _reasoned(scorer, task, start, rendered)
                # As a list: with too few rows it fails before any picture got a score.
                for one, (scores, why, reasons) in list(zip(judged, rows, strict=True)):
                    one.scores.update(scores)
                    one.words += [why] if why else []
                    one.reasons.update(reasons)
            except JudgeDownError as error:
                log.warning("no judge can be asked: %s", error)
                metrics.SCORER_FAILURES.labels(name).inc()
                told.away = str(error)[:300]
                told.notes.append(f"{', '.join(scorer.ranges)}{MISSING}{error}"[:300])
            except Exception as error:
                log.exception("scorer %s failed", name)
                metrics.SCORER_FAILURES.labels(name).inc()
                told.notes.append(f"{', '.join(scorer.ranges)}{MISSING}{error}"[:300])
        if match is not None:
            _compare_with_caption(match, judged, told)
        return judged, told

    def _matching(self, rendered: Sequence[Rendered]) -> Callable[[str], Sequence[float]] | None:
        """What compares these pictures with a caption, if a judge writes one. It looks at them now,
        while the device is held, and at the caption when the judge has answered."""
        writes = any(isinstance(one, Preparing) and one.captions for one in self._scorers)
        matching = next((one for one in self._scorers if isinstance(one, Matching)), None)
        if not writes or matching is None or not rendered:
            return None
        return matching.matching([one.stored.image for one in rendered if one.stored])

    def _likeness(self, rendered: Sequence[Rendered]) -> Sequence[Sequence[float]]:
        """How similar the previews of a batch are to each other; empty if they are finished."""
        comparing = next((one for one in self._scorers if isinstance(one, Comparing)), None)
        finished = any(one.trial.to_step is None for one in rendered)
        if comparing is None or len(rendered) < 2 or finished:
            return ()
        return comparing.likeness([one.stored.image for one in rendered if one.stored])

    def _add_likeness(
        self, task: EditTask, likeness: Sequence[Sequence[float]], judged: Sequence[_Judged]
    ) -> None:
        """Add to each preview its similarity to the nearest better preview of the batch.

        Strategies find duplicates by it (see search.protocol).
        """
        if not likeness:
            return
        potential = self._potential_for(task)
        values = [potential.judge(one.scores).value for one in judged]
        order = sorted(range(len(judged)), key=lambda index: -_or_minus_infinity(values[index]))
        for place, index in enumerate(order[1:], start=1):
            nearest = max(likeness[index][better] for better in order[:place])
            judged[index].scores[NEAREST] = nearest

    def _candidate(
        self,
        task: EditTask,
        rendered: Rendered,
        stored: StoredImage,
        judged: _Judged,
        told: _Told,
    ) -> Candidate:
        judgement = self._potential_for(task).judge(judged.scores)
        notes, away = tuple(told.notes), told.away
        failure = None
        if judgement.value is None and away:
            failure = Failure(JUDGE_DOWN, away)
        elif judgement.value is None:
            failure = Failure("scoring_failed", "; ".join((*judgement.notes, *notes)))
        return Candidate(
            trial=rendered.trial,
            image=stored.picture.image,
            thumbnail=stored.picture.thumbnail,
            metrics=judgement.metrics,
            potential=judgement.value,
            nfe=rendered.nfe,
            failure=failure,
            notes=(*rendered.notes, *notes, *judgement.notes),
            detail=stored.picture.detail,
            state=stored.picture.state,
            why=" ".join(judged.words),
            reasons=judged.reasons,
            prepared=told.prepared.told,
        )

    def _potential_for(self, task: EditTask) -> Potential:
        if not task.references and not task.settings:
            return self._potential
        settings = self._settings.changed(task.settings) if task.settings else self._settings
        with_reference = bool(task.references)
        return potential_of(settings, task.route, with_reference=with_reference)


def _waits(scorer: Scorer) -> bool:
    """Whether a scorer waits for servers only, and needs no device."""
    return bool(getattr(scorer, "waits", False))


def _needs_device(scorer: Scorer, task: EditTask) -> bool:
    asked: Any = getattr(scorer, "needs_device", None)
    return bool(asked(task)) if asked else not _waits(scorer)


def _preference(strength: float) -> Metric:
    share = 1 / (1 + exp(-strength))
    return Metric(PREFERENCE, strength, share, 0.0, 0.0)


def share_done(trial: Trial, steps: int) -> float:
    """The share of the denoising steps that a trial's picture has completed."""
    return 1.0 if trial.to_step is None or trial.draft else min(1.0, trial.to_step / max(1, steps))


def _compare_with_caption(
    match: Callable[[str], Sequence[float]], judged: Sequence[_Judged], told: _Told
) -> None:
    """Add the similarity to the caption, or say why it is missing."""
    if not told.prepared.caption:
        if told.prepared.problem:
            told.notes.append(f"{CAPTION}{MISSING}{told.prepared.problem}"[:300])
        return
    for one, value in zip(judged, match(told.prepared.caption), strict=True):
        one.scores[CAPTION] = value


def _reasoned(
    scorer: Scorer, task: EditTask, start: TaskImages, rendered: Sequence[Rendered]
) -> Sequence[tuple[Mapping[str, float], str, Mapping[str, str]]]:
    # In the finished image, the outside of the mask is restored and its changes are invisible.
    before = getattr(scorer, "judges_as_rendered", False)
    images = [
        one.stored.as_rendered if before else one.stored.image for one in rendered if one.stored
    ]
    progress = [share_done(one.trial, task.plan.steps) for one in rendered]
    if isinstance(scorer, Reasoning):
        return scorer.reasoned(task, start, images, progress)
    if isinstance(scorer, Explaining):
        return [(*each, {}) for each in scorer.explained(task, start, images, progress)]
    return [(scores, "", {}) for scores in scorer.score(task, start, images, progress)]


def _failed(rendered: Rendered) -> Candidate:
    return Candidate(
        rendered.trial, nfe=rendered.nfe, failure=rendered.failure, notes=rendered.notes
    )


def _or_minus_infinity(potential: float | None) -> float:
    return -inf if potential is None else potential
