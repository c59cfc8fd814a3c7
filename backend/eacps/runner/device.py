"""Runs batches of trials on one device, for all routes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from eacps.artifacts import ArtifactStore
from eacps.demo_defaults import demo_defaults_in_use, unknown_to_editor
from eacps.domain import Candidate, EditTask, Failure, Trial
from eacps.errors import CancelledError, EacpsError
from eacps.runner.faces import Faces
from eacps.runner.judging import Judge
from eacps.runner.pictures import PictureIndex, PicturesInMemory
from eacps.runner.potentials import potential_of
from eacps.runner.rendering import Renderer
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.editors import Editor
    from eacps.scoring import Potential, Scorer

log = logging.getLogger(__name__)

Tick = Callable[[], None]


class Device:
    """A device with its editor, scorers and face engine, which turns trials into candidates."""

    def __init__(
        self,
        editor: Editor,
        scorers: Sequence[Scorer],
        potential: Potential,
        store: ArtifactStore,
        settings: Settings,
        faces: Faces | None = None,
        pictures: PictureIndex | None = None,
    ) -> None:
        self.editor = editor
        self.faces = faces or Faces(settings, store, "cpu")
        index = PicturesInMemory() if pictures is None else pictures
        self._renderer = Renderer(editor, self.faces, store, settings, index)
        self._judge = Judge(scorers, potential, settings, index)
        self._settings = settings
        self._warnings = demo_defaults_in_use(settings)

    def run_batch(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Tick = lambda: None,
        let_go: Tick = lambda: None,
    ) -> list[Candidate]:
        """Return one candidate per trial, in order; raises only CancelledError.

        A failed trial becomes a candidate with a failure. After `let_go` was called, only servers
        are waited for, and another thread may run a batch.
        """
        started = time.perf_counter()
        try:
            if task.route == "face_swap":
                candidates = self.faces.run_batch(task, trials, tick)
            else:
                candidates = self._edited(task, trials, tick, let_go)
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

    def _edited(
        self, task: EditTask, trials: Sequence[Trial], tick: Tick, let_go: Tick
    ) -> list[Candidate]:
        start = self._renderer.start_of(task)
        # Where only servers judge, the device renders on while pictures are encoded and stored.
        early = let_go if self._judge.leaves_device(task) else _keep_it
        rendered = self._renderer.rendered(task, trials, tick, early)
        candidates = self._judge.candidates(task, start, rendered, let_go)
        warnings = (*self._warnings, *unknown_to_editor(self._settings, task.instruction))
        return [replace(one, notes=(*one.notes, *warnings)) for one in candidates]


def _keep_it() -> None:
    """The device is still needed."""


def _all_failed(trials: Sequence[Trial], failure: Failure) -> list[Candidate]:
    return [Candidate(trial, failure=failure) for trial in trials]


def open_device(
    settings: Settings, store: ArtifactStore, device: str, pictures: PictureIndex | None = None
) -> Device:
    """Load the editor and scorers onto a device, which takes seconds to minutes."""
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
        pictures=pictures,
    )
