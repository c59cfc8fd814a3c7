"""Putting a patch into a scene: only the pixels that change are touched."""

from __future__ import annotations

import numpy as np

from eacps.faces.protocol import Field, Patch, Pixels
from eacps.faces.selection import Mask

FEATHER = 0.03
"""Width of the soft edge inside a mask, in sides of the patch."""


def paste(scene: Pixels, patch: Patch, *, strength: float = 1.0, mask: Mask | None = None) -> None:
    """Blend a patch into the scene, in place; a mask, where there is one, is never left."""
    height, width = patch.alpha.shape
    rows, columns = slice(patch.y, patch.y + height), slice(patch.x, patch.x + width)
    alpha = patch.alpha * np.float32(strength)
    if mask is not None:
        alpha = alpha * _softened(mask[rows, columns])
    region = scene[rows, columns]
    # Where nothing is to change, rounding must not change it either.
    touched = alpha > 0
    weight = alpha[touched][:, None]
    blended = region[touched] * (1 - weight) + patch.pixels[touched] * weight
    region[touched] = np.rint(blended).clip(0, 255).astype(np.uint8)


def _softened(mask: Mask) -> Field:
    """1 well inside the mask, 0 outside of it, a slope between."""
    import cv2

    inside = mask.astype(np.uint8)
    if inside.all():
        return inside.astype(np.float32)
    slope = max(1.0, FEATHER * min(mask.shape))
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.asarray(np.clip(distance / slope, 0, 1), dtype=np.float32)
