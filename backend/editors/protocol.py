"""What the pipeline asks of an editor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from backend.domain import EditTask, Failure, Trial
from backend.images import TaskImages

Tick = Callable[[], None]


def no_tick() -> None:
    """For callers that need no word from inside a render."""


@dataclass(frozen=True)
class Render:
    """What became of one trial: an image at the editor's working size, or a failure."""

    trial: Trial
    nfe: int
    image: Image.Image | None = None
    failure: Failure | None = None
    state: Any = None
    notes: tuple[str, ...] = ()


class EditSession(Protocol):
    """One task on one editor: prompt and image are encoded once, when it is opened."""

    def advance(self, trials: Sequence[Trial], tick: Tick = no_tick) -> Sequence[Render]:
        """Render trials as one batch, in order. `tick` runs after every denoising step; what it
        raises ends the batch and passes through."""


class Editor(Protocol):
    """A loaded image-edit pipeline on one device."""

    @property
    def name(self) -> str:
        """What a card calls this editor."""

    def open(self, task: EditTask, images: TaskImages) -> EditSession:
        """Encode a task's prompt and images."""
