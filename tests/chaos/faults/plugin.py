"""An editor and a scorer that cost next to nothing, for the real worker process.

Every render is noted at its start and at its end, so that even `kill -9` leaves the truth behind.
The instruction of a task says how its attempts behave: `poison` kills the worker at every attempt
of one noise, `hang` hangs once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from eacps import Failure, MetricRange, Render, Trial

NOTES = "FAULTS_NOTES"
"""The file of the notes, which no fault reaches."""
SECONDS = "FAULTS_RENDER_SECONDS"
POISONED = "c2"


def note(**content: Any) -> None:
    """Append one line."""
    known = {"time": time.time(), "pid": os.getpid(), "host": os.environ.get("EACPS_HOST_NAME", "")}
    line = json.dumps({**known, **content}) + "\n"
    descriptor = os.open(os.environ[NOTES], os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)


class Painter:
    """Fills the picture with a grey that follows from the noise."""

    name = "painter"

    def open(self, task: Any, images: Any) -> Session:
        """One task."""
        return Session(task, images.source.size)


class Session:
    """The attempts at one task."""

    def __init__(self, task: Any, size: tuple[int, int]) -> None:
        self._key: str = task.key
        self._wish: str = task.instruction
        self._size = size

    def advance(
        self,
        trials: Sequence[Trial],
        tick: Callable[[], None] = lambda: None,
        states: object = None,
    ) -> list[Render]:
        """Render each."""
        return [self._render(trial, tick) for trial in trials]

    def _render(self, trial: Trial, tick: Callable[[], None]) -> Render:
        if trial.to_step is not None:
            return Render(trial, nfe=0, failure=Failure("cannot_pause", "The painter cannot."))
        note(
            host=os.environ.get("EACPS_HOST_NAME", ""), event="start", key=self._key, trial=trial.id
        )
        until = time.monotonic() + float(os.environ.get(SECONDS, "0.2"))
        while time.monotonic() < until:
            time.sleep(0.05)
            tick()
        if "poison" in self._wish and trial.id == POISONED:
            os._exit(139)
        if "hang" in self._wish and trial.id == POISONED:
            self._hang_once()
        note(event="end", key=self._key, trial=trial.id)
        grey = hash_of(trial) % 256
        return Render(trial, nfe=1, image=Image.new("RGB", self._size, (grey, grey, grey)))

    def _hang_once(self) -> None:
        flag = Path(f"{os.environ[NOTES]}.hung-{self._key}")
        while not flag.exists():
            flag.touch()
            time.sleep(3600)


def hash_of(trial: Trial) -> int:
    """A number that follows from the noise."""
    return trial.noise.seed + sum(move.seed for move in trial.noise.moves)


class Grey:
    """Brighter is better."""

    ranges: ClassVar = {"grey": MetricRange(worst=0, best=1)}

    def score(
        self, task: object, images: object, edited: Sequence[Image.Image], progress: object
    ) -> list[dict[str, float]]:
        """The first pixel's shade."""
        return [{"grey": float(image.convert("L").tobytes()[0]) / 255} for image in edited]
