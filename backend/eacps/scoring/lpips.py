"""Perceptual distance to the source: LPIPS (Zhang et al., 2018), or the same in CLIP features."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from PIL import Image

from eacps.domain import EditTask
from eacps.errors import ScoringError, SettingsError
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.recent import Recent
from eacps.scoring import masks
from eacps.scoring.clip import ClipScorer
from eacps.scoring.protocol import Images, Scores
from eacps.scoring.spatial import CACHED_TASKS, hide_masked, spatial_mean
from eacps.settings import Settings

if TYPE_CHECKING:
    import torch

    from eacps.scoring.tower import ClipTower, Features

CLIP_TRUNK = "clip"


class Distance(Protocol):
    """A perceptual distance of edited images to their source."""

    def __call__(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        mask: Image.Image | None,
    ) -> list[float]:
        """One distance per edited image; with a mask, of the part outside it."""


class LpipsScorer:
    """`lpips`: 0 for an unchanged image; with a mask, only the part outside it counts."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {"lpips": MetricRange(worst=1, best=0)}

    def __init__(self, distance: Distance) -> None:
        self._distance = distance

    @classmethod
    def load(cls, context: Context) -> LpipsScorer:
        """Load the trunk that EACPS_LPIPS_TRUNK names."""
        settings, device = context.settings, context.device
        if settings.lpips_trunk == CLIP_TRUNK:
            from eacps.scoring.tower import clip_tower

            return cls(ClipDistance(clip_tower(settings.clip, device)))
        from eacps.scoring.lpips_trunks import TRUNKS, TrunkDistance

        if settings.lpips_trunk not in TRUNKS:
            raise SettingsError(
                f"EACPS_LPIPS_TRUNK is {settings.lpips_trunk!r}.",
                hint=f"Set it to one of: {', '.join((*TRUNKS, CLIP_TRUNK))}.",
            )
        return cls(TrunkDistance(settings.lpips_trunk, device))

    @classmethod
    def wanted(cls, settings: Settings, metric_names: Collection[str]) -> bool:
        """True if CLIP runs anyway: then a distance in its features costs no forward pass."""
        return settings.lpips_trunk == CLIP_TRUNK and bool(ClipScorer.ranges.keys() & metric_names)

    def score(
        self, task: EditTask, images: TaskImages, edited: Images, _progress: Sequence[float] = ()
    ) -> Sequence[Scores]:
        """One distance per edited image."""
        if not edited:
            return []
        distances = self._distance(task, images, edited, masks.dividing_mask(images))
        return [{"lpips": distance} for distance in distances]


class ClipDistance:
    """LPIPS without its learned weights, on the stages of CLIP's image tower.

    Normalise the channels to unit length, square the difference, and average over the image and
    over the stages (Zhang et al., 2018, with all weights w_l = 1).
    """

    def __init__(self, tower: ClipTower) -> None:
        if not tower.has_stages:
            raise ScoringError(
                "The CLIP model of EACPS_CLIP does not expose its intermediate features.",
                hint="Set EACPS_LPIPS_TRUNK to alex, vgg or squeeze.",
            )
        self._tower = tower
        self._sources: Recent[str, Features] = Recent(CACHED_TASKS)

    def __call__(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        mask: Image.Image | None,
    ) -> list[float]:
        """One distance per edited image."""
        import torch

        with torch.inference_mode():
            target = self._tower.features(hide_masked(images, edited, mask))
            source = self._sources.get_or_make(
                task.key, lambda: self._tower.features(hide_masked(images, [images.source], mask))
            )
            parts = [
                spatial_mean(_difference(one, other), mask)
                for one, other in zip(target.stages, source.stages, strict=True)
            ]
            distances: list[float] = torch.stack(parts).mean(0).tolist()
        return distances


def _difference(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import normalize

    return (normalize(one, dim=1, eps=1e-10) - normalize(other, dim=1, eps=1e-10)).square().sum(1)
