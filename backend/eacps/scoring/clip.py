"""Prompt following and consistency, by CLIP similarity."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.judge_names import caption_metrics
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.recent import Recent
from eacps.scoring import masks
from eacps.scoring.protocol import CAPTION, Images, Scores
from eacps.settings import Settings

if TYPE_CHECKING:
    import torch

    from eacps.scoring.tower import ClipTower, Features

CACHED_TASKS = 8
MIN_MOVEMENT = 1e-3
"""A smaller distance between unit vectors is rounding noise of an unchanged image."""
NEUTRAL_TEXT = ""


@dataclass(frozen=True)
class _TaskVectors:
    """The vectors that all edits of a task share."""

    instruction: torch.Tensor
    direction: torch.Tensor
    source: torch.Tensor
    source_outside: torch.Tensor


class ClipScorer:
    """Three metrics from CLIP vectors:

    - `pf`, prompt following: similarity of edit and instruction; with a mask, the mean over the
      whole image and the part inside the mask;
    - `cons`, consistency: similarity of edit and source; with a mask, of the part outside it;
    - `pf_dir`: cosine of (edit - source) and (instruction - empty text), i.e. whether the image
      changed in the direction of the instruction; 0 if it did not change.

    Where a judge writes what the wished-for picture shows, the runner adds `caption`: similarity of
    the whole edit and that sentence (see `matching`).
    """

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        "pf": MetricRange(worst=0, best=0.5),
        "pf_dir": MetricRange(worst=-0.5, best=0.5),
        "cons": MetricRange(worst=0.5, best=1),
    }

    def __init__(self, tower: ClipTower) -> None:
        self._tower = tower
        self._task_vectors = Recent[str, _TaskVectors](CACHED_TASKS)

    @classmethod
    def load(cls, context: Context) -> ClipScorer:
        """Load the model of EACPS_CLIP."""
        from eacps.scoring.tower import clip_tower

        return cls(clip_tower(context.settings.clip, context.device))

    def score(
        self, task: EditTask, images: TaskImages, edited: Images, _progress: Sequence[float] = ()
    ) -> Sequence[Scores]:
        """Score all images in one forward pass; with a mask, their inside and outside too."""
        if not edited:
            return []
        mask = masks.dividing_mask(images)
        vectors = self._task_vectors.get_or_make(
            task.key, lambda: self._vectors_of(task, images, mask)
        )
        whole, within, beyond = self._features(images, edited, mask)
        following = whole.vectors @ vectors.instruction
        if within is not None:
            following = (following + within.vectors @ vectors.instruction) / 2
        staying = (beyond or whole).vectors @ vectors.source_outside
        moved = whole.vectors - vectors.source
        direction = (moved @ vectors.direction) / moved.norm(dim=-1).clamp_min(MIN_MOVEMENT)
        columns = (following.tolist(), direction.tolist(), staying.tolist())
        return [dict(zip(self.ranges, row, strict=True)) for row in zip(*columns, strict=True)]

    @classmethod
    def metric_ranges(cls, settings: Settings) -> Mapping[str, MetricRange]:
        """Its metrics: also `caption`, where a judge writes captions."""
        if not caption_metrics(settings):
            return cls.ranges
        return {**cls.ranges, CAPTION: cls.ranges["pf"]}

    @classmethod
    def wanted(cls, settings: Settings, metric_names: Collection[str]) -> bool:
        """Whether a judge is asked that writes captions."""
        asked = "verifier" in settings.scorers
        found = caption_metrics(settings)
        return bool(found) and (asked or bool(found & set(metric_names)))

    def matching(self, images: Sequence[Image.Image]) -> Callable[[str], Sequence[float]]:
        """The similarity of each image to a caption of the wished-for picture, as a whole."""
        vectors = self._tower.features(images).vectors

        def match(caption: str) -> list[float]:
            found: list[float] = (vectors @ self._tower.encode_texts([caption])[0]).tolist()
            return found

        return match

    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        """The cosine similarities of all pairs of images."""
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

    def _vectors_of(
        self, task: EditTask, images: TaskImages, mask: Image.Image | None
    ) -> _TaskVectors:
        instruction, neutral = self._tower.encode_texts([task.instruction, NEUTRAL_TEXT])
        direction = instruction - neutral
        source = self._tower.features([images.source]).vectors[0]
        beyond = source
        if mask is not None:
            beyond = self._tower.features([masks.outside(images.source, mask)]).vectors[0]
        unit = direction / direction.norm().clamp_min(1e-6)
        return _TaskVectors(instruction, unit, source, beyond)
