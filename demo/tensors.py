"""Converts between 8-bit pictures and tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image


def to_tensor(pictures: NDArray[numpy.uint8]) -> torch.Tensor:
    """Pictures [count, height, width, 3] as a tensor [count, 3, height, width] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_array(images: Sequence[Image.Image]) -> NDArray[numpy.uint8]:
    """Images as one array [count, height, width, 3]."""
    return numpy.stack([numpy.asarray(image.convert("RGB"), numpy.uint8) for image in images])
