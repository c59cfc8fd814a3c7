"""Masks in perceptual distances: hides the inside of a mask, and averages over the outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from eacps.images import TaskImages
from eacps.scoring import masks

if TYPE_CHECKING:
    import torch

CACHED_TASKS = 8
"""The source features of this many tasks are cached."""


def hide_masked(
    images: TaskImages, edited: Sequence[Image.Image], mask: Image.Image | None
) -> Sequence[Image.Image]:
    """The images with the inside of the mask painted over, or unchanged without a mask.

    A trunk's receptive field is wide: without this, the inside would affect features outside.
    """
    if mask is None:
        return edited
    return [masks.outside(masks.at_source_size(images, image), mask) for image in edited]


def spatial_mean(difference: torch.Tensor, mask: Image.Image | None) -> torch.Tensor:
    """The mean of [N, h, w] over h and w; with a mask, weighted by the share of each position that
    is outside it."""
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
