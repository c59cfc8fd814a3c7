"""Prompt following and consistency, as CLIP sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.recent import Recent
from eacps.scoring import masks
from eacps.scoring.protocol import Images, Scores

if TYPE_CHECKING:
    import torch

    from eacps.scoring.tower import ClipTower, Features

KEPT_TASKS = 8
LEAST_MOVEMENT = 1e-3
"""Of unit vectors; less is what rounding does to an image that nobody changed."""
NEUTRAL_TEXT = ""


@dataclass(frozen=True)
class _Known:
    """What stays the same for all edits of a task."""

    instruction: torch.Tensor
    direction: torch.Tensor
    source: torch.Tensor
    source_outside: torch.Tensor


class ClipScorer:
    """`pf`: similarity of edit and instruction, with a mask the mean of the whole image and of
    the part inside. `cons`: similarity of edit and source, with a mask outside it only.
    `pf_dir`: whether the image moved the way the words point, i.e. the cosine of (edit - source)
    and (instruction - empty text); 0 where nothing moved."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        "pf": MetricRange(worst=0, best=0.5),
        "pf_dir": MetricRange(worst=-0.5, best=0.5),
        "cons": MetricRange(worst=0.5, best=1),
    }

    def __init__(self, tower: ClipTower) -> None:
        self._tower = tower
        self._known = Recent[str, _Known](KEPT_TASKS)

    @classmethod
    def load(cls, context: Context) -> ClipScorer:
        """Load the model of EACPS_CLIP."""
        from eacps.scoring.tower import clip_tower

        return cls(clip_tower(context.settings.clip, context.device))

    def score(
        self, task: EditTask, images: TaskImages, edited: Images, _progress: Sequence[float] = ()
    ) -> Sequence[Scores]:
        """All images, and with a mask their insides and outsides, in one forward."""
        if not edited:
            return []
        mask = masks.dividing_mask(images)
        known = self._known.get_or_make(task.key, lambda: self._of_task(task, images, mask))
        whole, within, beyond = self._features(images, edited, mask)
        following = whole.vectors @ known.instruction
        if within is not None:
            following = (following + within.vectors @ known.instruction) / 2
        staying = (beyond or whole).vectors @ known.source_outside
        moved = whole.vectors - known.source
        direction = (moved @ known.direction) / moved.norm(dim=-1).clamp_min(LEAST_MOVEMENT)
        columns = (following.tolist(), direction.tolist(), staying.tolist())
        return [dict(zip(self.ranges, row, strict=True)) for row in zip(*columns, strict=True)]

    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        """Cosines of all pairs of images, as the model sees them."""
        vectors = self._tower.features(images).vectors
        return [[float(cosine) for cosine in row] for row in vectors @ vectors.T]

    def _features(
        self, images: TaskImages, edited: Sequence[Image.Image], mask: Image.Image | None
    ) -> tuple[Features, Features | None, Features | None]:
        if mask is None:
            return self._tower.features(edited), None, None
        fitted = [masks.at_source_size(images, image) for image in edited]
        within = [masks.inside(image, mask) for image in fitted]
        beyond = [masks.outside(image, mask) for image in fitted]
        count = len(edited)
        features = self._tower.features([*edited, *within, *beyond])
        first, second, third = features.split(count, count, count)
        return first, second, third

    def _of_task(self, task: EditTask, images: TaskImages, mask: Image.Image | None) -> _Known:
        instruction, neutral = self._tower.read([task.instruction, NEUTRAL_TEXT])
        direction = instruction - neutral
        source = self._tower.features([images.source]).vectors[0]
        beyond = source
        if mask is not None:
            beyond = self._tower.features([masks.outside(images.source, mask)]).vectors[0]
        unit = direction / direction.norm().clamp_min(1e-6)
        return _Known(instruction, unit, source, beyond)
