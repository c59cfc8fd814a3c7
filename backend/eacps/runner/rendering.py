"""Turns trials into pictures: looks up those rendered before, and renders and stores the rest."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from eacps import images as pixels
from eacps import log as logs
from eacps import metrics, tracing
from eacps.artifacts import ArtifactStore, MissingArtifactError
from eacps.domain import EditTask, Failure, Trial, to_json
from eacps.errors import CancelledError
from eacps.images import TaskImages
from eacps.recent import Recent
from eacps.runner.faces import Faces
from eacps.runner.inputs import finish, image_limits, load_images, masked
from eacps.runner.pictures import (
    Picture,
    PictureIndex,
    is_stored,
    nfe_between,
    picture_key,
    state_key,
)
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.editors import Editor, EditSession, Render

log = logging.getLogger(__name__)

Tick = Callable[[], None]
CACHED_TASKS = 20
"""Searches take turns on a device, more of them where servers judge."""
CACHED_STARTS = 3
"""Pictures of one task that an editor has encoded at the same time."""


@dataclass(frozen=True)
class StoredImage:
    """A stored picture with its pixels, both as shown and before restoring the mask's outside."""

    picture: Picture
    image: Image
    as_rendered: Image


@dataclass(frozen=True)
class Rendered:
    """The result of one trial: a picture, or a failure."""

    trial: Trial
    stored: StoredImage | None = None
    nfe: int = 0
    notes: tuple[str, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class _Known:
    """The keys of some trials, and those of their pictures that are stored."""

    keys: Mapping[str, str]
    pictures: Mapping[str, Picture]

    def picture(self, trial: Trial) -> Picture | None:
        """The trial's picture, if it was rendered before."""
        return self.pictures.get(self.keys[trial.id])

    def begun(self, trial: Trial) -> Picture | None:
        """The preview from which a paused trial resumes."""
        return self.pictures.get(state_key(trial.state)) if trial.state else None


@dataclass
class _Opened:
    """An open task; its session is opened when the first trial must be rendered."""

    start: TaskImages
    notes: tuple[str, ...] = ()
    detail: str = ""
    sessions: Recent[str, EditSession] = field(default_factory=lambda: Recent(CACHED_STARTS))
    """By the artifact of the picture that is edited; empty: the task's."""


class Renderer:
    """Renders trials with the editor of one device."""

    def __init__(
        self,
        editor: Editor,
        faces: Faces,
        store: ArtifactStore,
        settings: Settings,
        index: PictureIndex,
    ) -> None:
        self.editor = editor
        self._faces = faces
        self._store = store
        self._settings = settings
        self._index = index
        self._open = Recent[str, _Opened](CACHED_TASKS)

    def start_of(self, task: EditTask) -> TaskImages:
        """The images that a task's edits start from and are compared with."""
        return self._opened(task).start

    def rendered(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Tick,
        let_go: Callable[[], None] = lambda: None,
    ) -> list[Rendered]:
        """Return one entry per trial, in order. `let_go` is called once the editor is needed no
        longer: what follows only encodes, stores and reads pictures."""
        opened = self._opened(task)
        known = self._known(task, trials)
        stored = [trial for trial in trials if known.picture(trial) is not None]
        missing = [trial for trial in trials if known.picture(trial) is None]
        renders = self._renders(task, opened, missing, tick) if missing else ()
        let_go()
        found = self._kept(task, opened, missing, renders, known)
        found |= {trial.id: self._read(task, opened, trial, known) for trial in stored}
        metrics.RENDERS.labels("stored").inc(len(stored))
        return [found[trial.id] for trial in trials]

    def _renders(
        self, task: EditTask, opened: _Opened, trials: Sequence[Trial], tick: Tick
    ) -> Sequence[Render]:
        states = {trial.id: self._state(trial.state) for trial in trials if trial.state}
        renders: list[Render] = []
        for start in dict.fromkeys(trial.start for trial in trials):
            opening = partial(self._session, task, opened, start)
            session = opened.sessions.get_or_make(start, opening)
            own = [trial for trial in trials if trial.start == start]
            renders += _measured(session, own, tick, states)
        return renders

    def _session(self, task: EditTask, opened: _Opened, start: str) -> EditSession:
        if not start:
            return self.editor.open(task, opened.start)
        picture = pixels.decode(self._store.get(start), image_limits(self._settings))
        return self.editor.open(task, replace(opened.start, source=picture))

    def _kept(
        self,
        task: EditTask,
        opened: _Opened,
        trials: Sequence[Trial],
        renders: Sequence[Render],
        known: _Known,
    ) -> dict[str, Rendered]:
        """Store what was rendered."""
        new = {each.trial.id: self._stored(task, opened, each, known) for each in renders}
        pictures: dict[str, Picture] = {}
        for trial in trials:
            if stored := new[trial.id].stored:
                pictures[known.keys[trial.id]] = stored.picture
                if stored.picture.state:
                    pictures[state_key(stored.picture.state)] = stored.picture
        self._index.remember(pictures)
        return new

    def _known(self, task: EditTask, trials: Sequence[Trial]) -> _Known:
        keys = {trial.id: picture_key(task, trial) for trial in trials}
        begun = [state_key(trial.state) for trial in trials if trial.state]
        pictures = dict(self._index.known([*keys.values(), *begun]))
        for trial in trials:
            picture = pictures.get(keys[trial.id])
            if picture and not is_stored(picture, trial, self._store):
                del pictures[keys[trial.id]]
        return _Known(keys, pictures)

    def _read(self, task: EditTask, opened: _Opened, trial: Trial, known: _Known) -> Rendered:
        picture = known.picture(trial)
        assert picture is not None
        limits = image_limits(self._settings)
        content = self._store.get(picture.as_rendered or picture.image)
        as_rendered = pixels.decode(content, limits)
        stored = StoredImage(picture, masked(opened.start, as_rendered), as_rendered)
        nfe = nfe_between(picture, known.begun(trial), task.plan.steps)
        return Rendered(trial, stored, nfe, picture.notes)

    def _stored(self, task: EditTask, opened: _Opened, render: Render, known: _Known) -> Rendered:
        if render.image is None:
            failure = render.failure or Failure("editor_failed", "The editor returned no image.")
            return Rendered(render.trial, None, render.nfe, render.notes, failure)
        image = finish(opened.start, render)
        as_rendered = finish(TaskImages(opened.start.source), render)
        name, thumbnail = self._put(task, image, _recipe(task, render.trial, self.editor.name))
        # If the shown picture differs from the editor's output, later judges need that, too.
        differs = opened.start.mask is not None or task.route == "character"
        unmasked = self._store.put(pixels.encode_png(as_rendered), "png") if differs else ""
        picture = Picture(
            image=name,
            thumbnail=thumbnail,
            as_rendered=unmasked,
            step=render.trial.to_step,
            state=self._store.put(render.state, "safetensors") if render.state else None,
            nfe_per_step=_per_step(render, known.begun(render.trial), task.plan.steps),
            notes=(*render.notes, *opened.notes),
            detail=opened.detail,
        )
        stored = StoredImage(picture, image, as_rendered)
        with logs.ids(candidate=render.trial.id, artifact=name):
            log.info("candidate %s is stored as %s", render.trial.id, name)
        return Rendered(render.trial, stored, render.nfe, picture.notes)

    def _put(self, task: EditTask, image: Image, recipe: Mapping[str, Any]) -> tuple[str, str]:
        if task.route == "character":
            return self._faces.put(image, recipe)
        return (
            self._store.put(pixels.encode_png(image, json.dumps(recipe)), "png"),
            self._store.put(pixels.thumbnail(image), "jpg"),
        )

    def _state(self, name: str) -> bytes | None:
        """A paused render's state, or None if it is lost and the trial has to start again."""
        try:
            return self._store.get(name)
        except MissingArtifactError:
            return None

    def _opened(self, task: EditTask) -> _Opened:
        return self._open.get_or_make(task.key, lambda: self._start(task))

    def _start(self, task: EditTask) -> _Opened:
        images = load_images(task, self._store, self._settings)
        if task.route != "character":
            return _Opened(images)
        # The search repairs the swapped face, so edits start from it and are compared with it.
        prior = self._faces.prior(task, images)
        start = replace(images, source=prior.image, untouched=images.source)
        detail = f"swapped first by {self._faces.engine_name}: {prior.detail}"
        return _Opened(start, prior.notes, detail)


def _measured(
    session: EditSession, trials: Sequence[Trial], tick: Tick, states: Mapping[str, bytes | None]
) -> Sequence[Render]:
    started = time.monotonic()
    try:
        with tracing.span("render", trials=len(trials)):
            renders = session.advance(trials, tick, states)
    except CancelledError:
        raise
    except Exception:
        metrics.RENDERS.labels("failed").inc(len(trials))
        raise
    each = (time.monotonic() - started) / max(1, len(renders))
    for render in renders:
        metrics.RENDERS.labels("failed" if render.image is None else "done").inc()
        metrics.RENDER_SECONDS.observe(each)
        metrics.EVALUATIONS.inc(max(0, render.nfe))
    return renders


def _per_step(render: Render, begun: Picture | None, steps: int) -> float:
    # A resumed trial costs as much per step as before. Do not compute it from this render, which
    # may have had to start again.
    if begun is not None:
        return begun.nfe_per_step
    return render.nfe / max(1, steps if render.trial.to_step is None else render.trial.to_step)


def _recipe(task: EditTask, trial: Trial, editor: str) -> dict[str, Any]:
    """Everything needed to reproduce the picture, for its metadata. Scores are left out, because
    other judges may score the same picture later."""
    return {
        "instruction": task.instruction,
        "editor": editor,
        "rendered": task.rendered,
        "trial": to_json(replace(trial, state=None)),
    }
