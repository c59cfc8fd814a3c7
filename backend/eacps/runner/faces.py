"""Face swaps on a device: those of route face_swap, and the start of route character."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from eacps import images as pixels
from eacps import log as logs
from eacps import metrics, tracing
from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, Failure, Swap, Trial, to_json
from eacps.errors import FaceError
from eacps.faces.choices import NO_SUCH_CHOICE, swaps_of
from eacps.images import TaskImages
from eacps.recent import Recent
from eacps.runner.inputs import load_images
from eacps.runner.potentials import potential_of
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.faces.registry import OpenedEngine
    from eacps.faces.session import Swapped, SwapSession

log = logging.getLogger(__name__)

Tick = Callable[[], None]
CACHED_TASKS = 4
Box = tuple[int, int, int, int]
ROOM = 0.6
FILLS_MUCH = 0.5
NO_CHOICE = Failure(NO_SUCH_CHOICE, "This choice is not available for this engine or scene.")


class Faces:
    """The face engine of one device, loaded when a task first needs it."""

    def __init__(self, settings: Settings, store: ArtifactStore, device: str) -> None:
        self._settings = settings
        self._store = store
        self._device = device
        self._opened: OpenedEngine | None = None
        self._sessions: Recent[str, SwapSession] = Recent(CACHED_TASKS)

    def run_batch(self, task: EditTask, trials: Sequence[Trial], tick: Tick) -> list[Candidate]:
        """Return one candidate per trial of route face_swap, in order."""
        session = self._session(task, load_images(task, self._store, self._settings))
        recipes = _distinct(session, task)
        candidates = []
        for trial in trials:
            tick()
            recipe = recipes.get(trial.swap) if trial.swap else None
            swapped = _measured(session, recipe) if recipe else None
            if swapped is None:
                candidates.append(Candidate(trial, failure=NO_CHOICE))
            else:
                candidates.append(self._candidate(task, trial, swapped))
        return candidates

    def prior(self, task: EditTask, images: TaskImages) -> Swapped:
        """Swap the character's face into the scene, as the start of a search on route character."""
        session = self._session(task, images)
        swapped = session.swap(session.usual(Swap()))
        if swapped is None:
            raise FaceError("The engine offers no swap to start from.")
        return swapped

    @property
    def engine_name(self) -> str:
        """The name of the engine, for cards."""
        return self._engine().engine.name

    def put(
        self, image: Image, recipe: Mapping[str, Any], faces: Sequence[Box] = ()
    ) -> tuple[str, str]:
        """Store an image with swapped faces, marked as such, and its thumbnail.

        The thumbnail is cropped to the faces if they are small.
        """
        from eacps.faces.marking import marked

        shown, png = marked(image, recipe, self._engine().engine, self._settings)
        close = image.crop(_around(faces, image.size)) if faces else shown
        return self._store.put(png, "png"), self._store.put(pixels.thumbnail(close), "jpg")

    def _engine(self) -> OpenedEngine:
        if self._opened is None:
            from eacps.faces.registry import shared_engine

            self._opened = shared_engine(self._settings, self._device)
        return self._opened

    def _session(self, task: EditTask, images: TaskImages) -> SwapSession:
        from eacps.faces.session import SwapSession

        opened = self._engine()
        return self._sessions.get_or_make(
            task.key, lambda: SwapSession(opened.engine, task, images, notes=opened.notes)
        )

    def _candidate(self, task: EditTask, trial: Trial, swapped: Swapped) -> Candidate:
        judged = potential_of(self._settings, "face_swap").judge(swapped.scores)
        recipe = {
            "task_key": task.key,
            "instruction": task.instruction,
            "fingerprint": task.fingerprint,
            "swap": to_json(trial.swap),
            "scores": dict(swapped.scores),
            "potential": judged.value,
        }
        image, thumbnail = self.put(swapped.image, recipe, swapped.faces)
        with logs.ids(candidate=trial.id, artifact=image):
            log.info("candidate %s is stored as %s", trial.id, image)
        return Candidate(
            trial=trial,
            image=image,
            thumbnail=thumbnail,
            metrics=judged.metrics,
            potential=judged.value,
            notes=(*swapped.notes, *judged.notes),
            editor=self._engine().words,
            detail=swapped.detail,
        )


def _measured(session: SwapSession, recipe: Swap) -> Swapped | None:
    with tracing.span("render", trials=1), metrics.RENDER_SECONDS.time():
        swapped = session.swap(recipe)
    if swapped is not None:
        metrics.RENDERS.labels("done").inc()
    return swapped


def _around(faces: Sequence[Box], size: tuple[int, int]) -> Box:
    """A box with a margin around all faces, or the whole image if they fill much of it."""
    left, top, right, bottom = zip(*faces, strict=True)
    more = ROOM * max(max(right) - min(left), max(bottom) - min(top))
    box = (
        max(0, round(min(left) - more)),
        max(0, round(min(top) - more)),
        min(size[0], round(max(right) + more)),
        min(size[1], round(max(bottom) + more)),
    )
    small = (box[2] - box[0]) * (box[3] - box[1]) < FILLS_MUCH * size[0] * size[1]
    return box if small else (0, 0, *size)


def _distinct(session: SwapSession, task: EditTask) -> dict[Swap, Swap]:
    """The recipes of the plan as this engine applies them, without duplicates."""
    meant: dict[Swap, Swap] = {}
    for swap in swaps_of(task.plan):
        usual = session.usual(swap)
        if usual not in meant.values():
            meant[swap] = usual
    return meant
