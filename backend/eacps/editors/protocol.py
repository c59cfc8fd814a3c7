"""What the pipeline asks of an editor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from eacps.domain import EditTask, Failure, Trial
from eacps.images import TaskImages

Tick = Callable[[], None]
States = Mapping[str, bytes | None]
"""By trial id: what a Render's `state` was; None: it was paused, but its state is lost."""


def no_tick() -> None:
    """For callers that need no word from inside a render."""


@dataclass(frozen=True)
class Render:
    """What became of one trial: an image at the editor's working size, or a failure.

    A paused trial's image is a preview, and `state` is a safetensors file from which any worker
    with the same editor can go on. `nfe` is what this call spent.
    """

    trial: Trial
    nfe: int
    image: Image.Image | None = None
    failure: Failure | None = None
    state: bytes | None = None
    notes: tuple[str, ...] = ()


class EditSession(Protocol):
    """One task on one editor: prompt and image are encoded once, when it is opened."""

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> Sequence[Render]:
        """Render trials in order, each to its `to_step`; those that begin and end at the same
        steps are one batch. Trials that were paused here, or whose states are handed in, go on
        where they stood. `tick` runs after every denoising step; what it raises ends the batch
        and passes through."""


class Editor(Protocol):
    """A loaded image-edit pipeline on one device."""

    @property
    def name(self) -> str:
        """What a card calls this editor."""

    def open(self, task: EditTask, images: TaskImages) -> EditSession:
        """Encode a task's prompt and images."""
