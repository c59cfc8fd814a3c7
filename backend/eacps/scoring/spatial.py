"""What distances to the source share: the images as a trunk sees them, and means over places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from eacps.images import TaskImages
from eacps.scoring import masks

if TYPE_CHECKING:
    import torch

KEPT_TASKS = 8
"""Of so many tasks the source is looked at only once."""


def shown(
    images: TaskImages, edited: Sequence[Image.Image], mask: Image.Image | None
) -> Sequence[Image.Image]:
    """What a trunk looks at: with a mask, the inside is painted over, or it would shine through
    the trunk's wide view into what lies outside."""
    if mask is None:
        return edited
    return [masks.outside(masks.at_source_size(images, image), mask) for image in edited]


def spatial_mean(difference: torch.Tensor, mask: Image.Image | None) -> torch.Tensor:
    """The mean over rows and columns of [N, h, w]; with a mask, weighted by how far each place
    lies outside it."""
    if mask is None:
        return difference.mean(dim=(1, 2))
    import numpy as np
    import torch

    rows, columns = difference.shape[1:]
    small = mask.resize((columns, rows), Image.Resampling.BOX)
    weight = torch.from_numpy(1 - np.asarray(small, dtype=np.float32) / 255)
    weight = weight.to(difference.device)
    total = weight.sum()
    if float(total) == 0:
        return difference.mean(dim=(1, 2))
    return (difference * weight).sum(dim=(1, 2)) / total
