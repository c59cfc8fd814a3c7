"""One device: what it does with a batch of trials, whatever the task's route."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from eacps import images as pixels
from eacps.artifacts import ArtifactStore, MissingArtifactError
from eacps.domain import Candidate, EditTask, Failure, Trial, to_json
from eacps.errors import CancelledError, EacpsError
from eacps.images import TaskImages
from eacps.recent import Recent
from eacps.runner.faces import Faces
from eacps.runner.inputs import finish, load_images
from eacps.runner.judging import potential_of
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.editors import Editor, EditSession, Render
    from eacps.scoring import Potential, Scorer

log = logging.getLogger(__name__)

Tick = Callable[[], None]
KEPT_SESSIONS = 4
NEAREST = "nearest_similarity"


@dataclass(frozen=True)
class _Opened:
    """A task on the editor: `images` as they came, `start` as the editor and scorers see them."""

    session: EditSession
    images: TaskImages
    start: TaskImages
    notes: tuple[str, ...] = ()
    detail: str = ""


class Device:
    """One device with its editor, scorers and face engine: turns trials into candidates."""

    def __init__(
        self,
        editor: Editor,
        scorers: Sequence[Scorer],
        potential: Potential,
        store: ArtifactStore,
        settings: Settings,
        faces: Faces | None = None,
    ) -> None:
        self.editor = editor
        self.faces = faces or Faces(settings, store, "cpu")
        self._scorers = scorers
        self._potential = potential
        self._store = store
        self._settings = settings
        self._open = Recent[str, _Opened](KEPT_SESSIONS)

    def run_batch(
        self, task: EditTask, trials: Sequence[Trial], tick: Tick = lambda: None
    ) -> list[Candidate]:
        """One candidate per trial, in order; failures are candidates too. Only cancelling
        raises."""
        started = time.perf_counter()
        try:
            if task.route == "face_swap":
                candidates = self.faces.run_batch(task, trials, tick)
            else:
                candidates = self._edited(task, trials, tick)
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
            replace(candidate, seconds=each, editor=candidate.editor or self.editor.name)
            for candidate in candidates
        ]

    def _edited(self, task: EditTask, trials: Sequence[Trial], tick: Tick) -> list[Candidate]:
        opened = self._open.get_or_make(task.key, lambda: self._opened(task))
        states = {trial.id: self._state(trial.state) for trial in trials if trial.state}
        return self._judge(task, opened, opened.session.advance(trials, tick, states))

    def _state(self, name: str) -> bytes | None:
        """A paused render's state; None if it is lost, and the trial has to start anew."""
        try:
            return self._store.get(name)
        except MissingArtifactError:
            return None

    def _opened(self, task: EditTask) -> _Opened:
        images = load_images(task, self._store, self._settings)
        if task.route != "character":
            return _Opened(self.editor.open(task, images), images, images)
        # The search heals the swapped face, so it starts from it, and keeps to it.
        prior = self.faces.prior(task, images)
        start = replace(images, source=prior.image)
        detail = f"swapped first by {self.faces.engine_name}: {prior.detail}"
        return _Opened(self.editor.open(task, start), images, start, prior.notes, detail)

    def _judge(self, task: EditTask, opened: _Opened, renders: Sequence[Render]) -> list[Candidate]:
        images = opened.start
        rendered = [render for render in renders if render.image is not None]
        finished = [finish(images, render) for render in rendered]
        as_rendered = [finish(TaskImages(images.source), render) for render in rendered]
        scores, notes = self._score(task, images, finished, as_rendered)
        for merged, identity in zip(
            scores, self._identities(task, opened.images, finished), strict=True
        ):
            merged.update(identity)
        self._add_likeness(task, renders, finished, scores)
        remaining = iter(zip(finished, scores, strict=True))
        candidates = []
        for render in renders:
            if render.image is None:
                failure = render.failure or Failure("editor_failed", "The editor gave no image.")
                candidates.append(Candidate(render.trial, nfe=render.nfe, failure=failure))
                continue
            image, raw = next(remaining)
            candidate = self._candidate(task, render, image, raw, (*opened.notes, *notes))
            candidates.append(replace(candidate, detail=opened.detail))
        return candidates

    def _identities(
        self, task: EditTask, images: TaskImages, edited: Sequence[Image]
    ) -> Sequence[Mapping[str, float]]:
        if not task.references:
            return [{} for _ in edited]
        return self.faces.identities(task, images, edited)

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

    def _add_likeness(
        self,
        task: EditTask,
        renders: Sequence[Render],
        edited: Sequence[Image],
        scores: Sequence[dict[str, float]],
    ) -> None:
        """To each preview its likeness to the nearest better preview of the batch, by which a
        strategy finds duplicates (see search.protocol)."""
        paused = [render.trial.to_step for render in renders if render.image is not None]
        comparing = next((one for one in self._scorers if hasattr(one, "likeness")), None)
        if comparing is None or len(edited) < 2 or None in paused:
            return
        likeness = comparing.likeness(edited)
        potential = self._potential_for(task)
        judged = [potential.judge(raw).value for raw in scores]
        order = sorted(range(len(edited)), key=lambda one: -_or_worst(judged[one]))
        for place, one in enumerate(order[1:], start=1):
            scores[one][NEAREST] = max(likeness[one][better] for better in order[:place])

    def _candidate(
        self,
        task: EditTask,
        render: Render,
        image: Image,
        raw: Mapping[str, float],
        notes: tuple[str, ...],
    ) -> Candidate:
        judged = self._potential_for(task).judge(raw)
        recipe = {
            "task_key": task.key,
            "instruction": task.instruction,
            "editor": self.editor.name,
            "fingerprint": task.fingerprint,
            "trial": to_json(render.trial),
            "scores": dict(raw),
            "potential": judged.value,
        }
        name, thumbnail = self._put(task, image, recipe)
        failure = None
        if judged.value is None:
            failure = Failure("scoring_failed", "; ".join((*judged.notes, *notes)))
        return Candidate(
            trial=render.trial,
            image=name,
            thumbnail=thumbnail,
            metrics=judged.metrics,
            potential=judged.value,
            nfe=render.nfe,
            failure=failure,
            notes=(*render.notes, *notes, *judged.notes),
            state=self._store.put(render.state, "safetensors") if render.state else None,
        )

    def _put(self, task: EditTask, image: Image, recipe: Mapping[str, Any]) -> tuple[str, str]:
        if task.route == "character":
            return self.faces.put(image, recipe)
        return (
            self._store.put(pixels.encode_png(image, json.dumps(recipe)), "png"),
            self._store.put(pixels.thumbnail(image), "jpg"),
        )

    def _potential_for(self, task: EditTask) -> Potential:
        if not task.references:
            return self._potential
        return potential_of(self._settings, task.route)


def _or_worst(potential: float | None) -> float:
    return -inf if potential is None else potential


def _all_failed(trials: Sequence[Trial], failure: Failure) -> list[Candidate]:
    return [Candidate(trial, failure=failure) for trial in trials]


def open_device(settings: Settings, store: ArtifactStore, device: str) -> Device:
    """Load editor and scorers onto a device: seconds to minutes, once per process."""
    from eacps.editors import open_editor
    from eacps.scoring import open_scorers

    potential = potential_of(settings, "edit", with_reference=False)
    return Device(
        editor=open_editor(settings, device),
        scorers=open_scorers(settings, device, potential.metric_names),
        potential=potential,
        store=store,
        settings=settings,
        faces=Faces(settings, store, device),
    )
