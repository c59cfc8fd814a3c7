"""Was it done, was the rest left alone, is the image whole? A trained judge from a folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from PIL import Image

from eacps.domain import EditTask
from eacps.errors import SettingsError
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.settings import Settings


class VerifierScorer:
    """`satisfied`: what was asked for is there. `preserved`: everything else is as it was.
    `intact`: the image is no mush. `verified`: `satisfied` x `preserved`. All are probabilities
    of a network that was trained to judge edits, given source, edit and instruction."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        "satisfied": MetricRange(worst=0, best=1),
        "preserved": MetricRange(worst=0, best=1),
        "intact": MetricRange(worst=0, best=1),
        "verified": MetricRange(worst=0, best=1),
    }

    def __init__(self, judge: Any) -> None:
        self._judge = judge

    @classmethod
    def open(cls, settings: Settings, device: str) -> VerifierScorer:
        """Load the folder of EACPS_VERIFIER."""
        if not settings.verifier:
            names = ", ".join(cls.ranges)
            raise SettingsError(
                f"The potential needs a verifier ({names}), but EACPS_VERIFIER is empty.",
                hint="Set EACPS_VERIFIER, or take these metrics out of EACPS_WEIGHTS.",
            )
        loading = import_module("eacps.demo.verifier.loading")
        return cls(loading.loaded_verifier(settings.verifier, device))

    @classmethod
    def free(cls, _settings: Settings, _metric_names: Collection[str]) -> bool:
        """It has a forward of its own."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics it yields."""
        return tuple(self.ranges)

    def score(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: float | None = None,
    ) -> Sequence[Mapping[str, float]]:
        """All images in one forward; `progress` is the share of steps done, where it is known."""
        if not edited:
            return []
        rows = self._judge.probabilities(images.source, edited, task.instruction, progress)
        return [
            {
                "satisfied": satisfied,
                "preserved": preserved,
                "intact": intact,
                "verified": satisfied * preserved,
            }
            for satisfied, preserved, intact in rows
        ]
