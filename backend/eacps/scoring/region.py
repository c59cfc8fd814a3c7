"""Whether the change is inside the mask."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.scoring import masks
from eacps.scoring.protocol import Images, Scores
from eacps.settings import Settings


class RegionScorer:
    """`region`: the share of the total absolute change of pixels that is inside the mask; 0 if
    nothing changed. Tasks without a mask do not have this metric."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {"region": MetricRange(worst=0, best=1)}
    judges_as_rendered: ClassVar[bool] = True

    @classmethod
    def wanted(cls, _settings: Settings, _metric_names: Collection[str]) -> bool:
        """Always true, because it is cheap."""
        return True

    @staticmethod
    def needs_device(_task: EditTask) -> bool:
        """It computes on the processor alone."""
        return False

    def score(
        self, _task: EditTask, images: TaskImages, edited: Images, _progress: Sequence[float] = ()
    ) -> Sequence[Scores]:
        """One share per edited image."""
        import numpy as np

        mask = masks.dividing_mask(images)
        if mask is None:
            return [{} for _ in edited]
        source = np.asarray(images.source, dtype=np.float32)
        within = np.asarray(mask, dtype=bool)
        shares = []
        for image in edited:
            target = np.asarray(masks.at_source_size(images, image), dtype=np.float32)
            change = np.abs(target - source).sum(axis=2)
            total = float(change.sum())
            shares.append({"region": float(change[within].sum()) / total if total else 0.0})
        return shares
