"""One EditTask in, one SearchResult out: ask the strategy, render, score, rank."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL.Image import Image, Resampling

from backend import images as pixels
from backend.artifacts import ArtifactStore
from backend.domain import (
    Candidate,
    EditTask,
    Failure,
    SearchPlan,
    SearchResult,
    Trial,
    to_json,
)
from backend.errors import CancelledError, EacpsError, NotAvailableError, SearchError
from backend.images import TaskImages
from backend.search import budget, create
from backend.search import ranked as rank_outcomes
from backend.settings import Settings

if TYPE_CHECKING:
    from backend.editors import Editor, EditSession, Render
    from backend.scoring import Potential, Scorer

log = logging.getLogger(__name__)

Tick = Callable[[], None]
RunBatches = Callable[[Sequence[Sequence[Trial]]], Sequence[Candidate]]
OnProgress = Callable[["Progress"], None]
KEPT_SESSIONS = 4


@dataclass(frozen=True)
class Progress:
    """How far a search is."""

    finished: int
    expected: int
    best: float | None


def search(
    task: EditTask,
    run_batches: RunBatches,
    *,
    on_progress: OnProgress | None = None,
    potential_range: tuple[float, float] = (0.0, 1.0),
) -> SearchResult:
    """Run the task's strategy to its end; how batches are run is the caller's affair."""
    require_available(task)
    strategy = create(task.plan)
    expected = budget(task.plan)
    candidates: list[Candidate] = []
    while trials := strategy.ask():
        finished = run_batches(batches(trials, task.plan))
        strategy.tell([candidate.outcome for candidate in finished])
        candidates.extend(finished)
        if on_progress:
            on_progress(_progress(candidates, expected))
    return _result(task, candidates, potential_range)


def require_available(task: EditTask) -> None:
    """Refuse routes whose engine is not part of this build."""
    if task.route != "edit":
        raise NotAvailableError(
            f"The route {task.route!r} is not available in this build.",
            hint="Label the task as an edit, or map its label to `edit` in EACPS_ROUTE_LABELS.",
        )


def batches(trials: Sequence[Trial], plan: SearchPlan) -> list[Sequence[Trial]]:
    """Trials cut into batches of the plan's size, in order."""
    size = plan.batch_size
    return [trials[start : start + size] for start in range(0, len(trials), size)]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Best first, ties in the order in which they were asked, failures last."""
    by_trial = {candidate.trial: candidate for candidate in candidates}
    best_first = [
        by_trial.pop(outcome.trial)
        for outcome in rank_outcomes([candidate.outcome for candidate in candidates])
    ]
    return [*best_first, *by_trial.values()]


def _progress(candidates: Sequence[Candidate], expected: int) -> Progress:
    potentials = [c.potential for c in candidates if c.potential is not None]
    return Progress(len(candidates), expected, max(potentials, default=None))


def _result(
    task: EditTask, candidates: Sequence[Candidate], potential_range: tuple[float, float]
) -> SearchResult:
    order = ranked(candidates)
    if not order or not order[0].outcome.usable:
        reasons = {c.failure.message for c in order if c.failure}
        raise SearchError(
            f"None of {len(order)} candidates is usable: {'; '.join(sorted(reasons)[:3])}",
            hint="Mend the cause named here, then retry the task.",
        )
    return SearchResult(
        task=task,
        candidates=tuple(order),
        nfe=sum(c.nfe for c in order),
        seconds=round(sum(c.seconds for c in order), 3),
        editor=order[0].editor,
        potential_range=potential_range,
    )


class Device:
    """One device with its editor and scorers: renders and judges batches of trials."""

    def __init__(
        self,
        editor: Editor,
        scorers: Sequence[Scorer],
        potential: Potential,
        store: ArtifactStore,
        settings: Settings,
    ) -> None:
        self.editor = editor
        self._scorers = scorers
        self._potential = potential
        self._store = store
        self._settings = settings
        self._open: OrderedDict[str, tuple[EditSession, TaskImages]] = OrderedDict()

    def run_batch(
        self, task: EditTask, trials: Sequence[Trial], tick: Tick = lambda: None
    ) -> list[Candidate]:
        """One candidate per trial, in order; failures are candidates too. Only cancelling
        raises."""
        started = time.perf_counter()
        try:
            session, images = self._session(task)
            renders = session.advance(trials, tick)
            candidates = self._judge(task, images, renders)
        except CancelledError:
            raise
        except EacpsError as error:
            log.warning("batch failed: %s", error)
            candidates = _all_failed(trials, Failure(error.code, str(error)))
        except Exception as error:
            log.exception("batch failed")
            reason = f"The editor failed: {type(error).__name__}: {error}"
            candidates = _all_failed(trials, Failure("editor_failed", reason[:400]))
        each = round((time.perf_counter() - started) / max(1, len(trials)), 4)
        return [
            replace(candidate, seconds=each, editor=self.editor.name) for candidate in candidates
        ]

    def _session(self, task: EditTask) -> tuple[EditSession, TaskImages]:
        if task.key not in self._open:
            images = load_images(task, self._store, self._settings)
            self._open[task.key] = (self.editor.open(task, images), images)
            while len(self._open) > KEPT_SESSIONS:
                self._open.popitem(last=False)
        self._open.move_to_end(task.key)
        return self._open[task.key]

    def _judge(
        self, task: EditTask, images: TaskImages, renders: Sequence[Render]
    ) -> list[Candidate]:
        rendered = [render for render in renders if render.image is not None]
        finished = [finish(images, render) for render in rendered]
        as_rendered = [finish(TaskImages(images.source), render) for render in rendered]
        scores, notes = self._score(task, images, finished, as_rendered)
        remaining = iter(zip(finished, scores, strict=True))
        candidates = []
        for render in renders:
            if render.image is None:
                failure = render.failure or Failure("editor_failed", "The editor gave no image.")
                candidates.append(Candidate(render.trial, nfe=render.nfe, failure=failure))
                continue
            image, raw = next(remaining)
            candidates.append(self._candidate(task, render, image, raw, notes))
        return candidates

    def _score(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image],
        as_rendered: Sequence[Image],
    ) -> tuple[list[dict[str, float]], tuple[str, ...]]:
        scores: list[dict[str, float]] = [{} for _ in edited]
        notes: list[str] = []
        for scorer in self._scorers if edited else ():
            # Once the outside of the mask is restored, nobody can see what was done to it.
            seen = as_rendered if getattr(scorer, "judges_as_rendered", False) else edited
            try:
                for merged, new in zip(scores, scorer.score(task, images, seen), strict=True):
                    merged.update(new)
            except Exception as error:
                log.exception("scorer %s failed", type(scorer).__name__)
                notes.append(f"{', '.join(scorer.names)} missing: {error}"[:300])
        return scores, tuple(notes)

    def _candidate(
        self,
        task: EditTask,
        render: Render,
        image: Image,
        raw: Mapping[str, float],
        notes: tuple[str, ...],
    ) -> Candidate:
        judged = self._potential.judge(raw)
        recipe = {
            "task_key": task.key,
            "instruction": task.instruction,
            "editor": self.editor.name,
            "fingerprint": task.fingerprint,
            "trial": to_json(render.trial),
            "scores": dict(raw),
            "potential": judged.value,
        }
        failure = None
        if judged.value is None:
            failure = Failure("scoring_failed", "; ".join((*judged.notes, *notes)))
        return Candidate(
            trial=render.trial,
            image=self._store.put(pixels.encode_png(image, json.dumps(recipe)), "png"),
            thumbnail=self._store.put(pixels.thumbnail(image), "jpg"),
            metrics=judged.metrics,
            potential=judged.value,
            nfe=render.nfe,
            failure=failure,
            notes=(*render.notes, *notes, *judged.notes),
        )


def finish(images: TaskImages, render: Render) -> Image:
    """A render at the source's size, with the source untouched outside the mask."""
    if render.image is None:
        raise ValueError("a failed render cannot be finished")
    if images.mask is not None:
        return pixels.keep_outside(images.source, render.image, images.mask)
    if render.image.size == images.source.size:
        return render.image
    return render.image.resize(images.source.size, Resampling.LANCZOS)


def load_images(task: EditTask, store: ArtifactStore, settings: Settings) -> TaskImages:
    """A task's images from the store; without a mask the source is fitted to max_side."""
    limits = image_limits(settings)
    source = pixels.decode(store.get(task.image), limits)
    if task.mask is None:
        source = pixels.fit_within(source, settings.max_side)
    return TaskImages(
        source=source,
        mask=pixels.decode_mask(store.get(task.mask), limits) if task.mask else None,
        reference=pixels.decode(store.get(task.reference), limits) if task.reference else None,
    )


def image_limits(settings: Settings) -> pixels.ImageLimits:
    """The limits on images that the settings name."""
    return pixels.ImageLimits(
        settings.max_image_bytes, settings.max_image_pixels, settings.min_image_side
    )


def potential_range(settings: Settings) -> tuple[float, float]:
    """The potentials that a score of 0 and of 1 stand for."""
    from backend.scoring import Potential

    return Potential.of(settings).range


def _all_failed(trials: Sequence[Trial], failure: Failure) -> list[Candidate]:
    return [Candidate(trial, failure=failure) for trial in trials]


def open_device(settings: Settings, store: ArtifactStore, device: str) -> Device:
    """Load editor and scorers onto a device: seconds to minutes, once per process."""
    from backend.editors import open_editor
    from backend.scoring import Potential, open_scorers

    potential = Potential.of(settings)
    return Device(
        editor=open_editor(settings, device),
        scorers=open_scorers(settings, device, potential.metric_names),
        potential=potential,
        store=store,
        settings=settings,
    )
