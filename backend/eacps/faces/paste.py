"""Blends a patch into a scene."""

from __future__ import annotations

import numpy as np

from eacps.faces.protocol import Field, Patch, Pixels
from eacps.faces.selection import Mask

FEATHER = 0.03
"""Width of the soft edge inside a mask, relative to the side of the patch."""


def paste(scene: Pixels, patch: Patch, *, strength: float = 1.0, mask: Mask | None = None) -> None:
    """Blend a patch into the scene in place, and only inside the mask if there is one."""
    height, width = patch.alpha.shape
    rows, columns = slice(patch.y, patch.y + height), slice(patch.x, patch.x + width)
    alpha = patch.alpha * np.float32(strength)
    if mask is not None:
        alpha = alpha * _softened(mask[rows, columns])
    region = scene[rows, columns]
    # Skip transparent pixels, which rounding could change.
    touched = alpha > 0
    weight = alpha[touched][:, None]
    blended = region[touched] * (1 - weight) + patch.pixels[touched] * weight
    region[touched] = np.rint(blended).clip(0, 255).astype(np.uint8)


def _softened(mask: Mask) -> Field:
    """1 inside the mask, 0 outside, with a soft edge on the inside."""
    import cv2

    inside = mask.astype(np.uint8)
    if inside.all():
        return inside.astype(np.float32)
    slope = max(1.0, FEATHER * min(mask.shape))
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.asarray(np.clip(distance / slope, 0, 1), dtype=np.float32)
