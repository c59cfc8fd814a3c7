"""What the pipeline asks of a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages


class Scorer(Protocol):
    """Judges edited images of one task by named metrics.

    A scorer with the class attribute `judges_as_rendered = True` sees images as the editor made
    them, before the outside of a mask is restored. One with a method `likeness(images)` also tells
    how alike images are: a square of cosines.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics it yields."""

    def score(
        self, task: EditTask, images: TaskImages, edited: Sequence[Image.Image]
    ) -> Sequence[Mapping[str, float]]:
        """One mapping of metric name to raw value per edited image, all in one forward."""
