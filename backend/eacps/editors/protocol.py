"""The protocols that editors implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from eacps.domain import EditTask, Failure, Trial
from eacps.images import TaskImages

Tick = Callable[[], None]
States = Mapping[str, bytes | None]
"""`Render.state` by trial id; None for a paused trial whose state is lost."""


def no_tick() -> None:
    """Do nothing: the default `tick`."""


@dataclass(frozen=True)
class Render:
    """The result of one trial: an image at the editor's working size, or a failure.

    A paused trial's image is a preview, and `state` is a safetensors file from which any worker
    with the same editor can resume. `nfe` counts the forward passes of this call.
    """

    trial: Trial
    nfe: int
    image: Image.Image | None = None
    failure: Failure | None = None
    state: bytes | None = None
    notes: tuple[str, ...] = ()


class EditSession(Protocol):
    """One task on one editor. Prompt and image are encoded once, when the session is opened."""

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> Sequence[Render]:
        """Render each trial up to its `to_step`; returns one Render per trial, in order.

        Trials with the same first and last step form one batch. Trials that were paused in this
        session, or whose state is in `states`, resume where they stopped. `tick` runs after every
        denoising step; an exception from it ends the batch and propagates.
        """


class Editor(Protocol):
    """A loaded image-edit pipeline on one device."""

    @property
    def name(self) -> str:
        """The name that cards show."""

    def open(self, task: EditTask, images: TaskImages) -> EditSession:
        """Encode a task's prompt and images."""
