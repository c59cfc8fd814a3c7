"""The mask and the colour correction of a swapped crop."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eacps.faces.protocol import Field, Pixels

FEATHER: Final = 0.08
"""Width of the soft edge, relative to the crop's side."""
WIDEST_FEATHER: Final = 32.0
"""In pixels of the scene. A wider edge would look out of focus on a large face."""
_CENTRE: Final = (0.5, 0.52)
_RADII: Final = (0.42, 0.46)
_ROUNDNESS: Final = 2.5
"""The exponent of a superellipse: 2 is an ellipse; higher values are closer to a box."""

LARGEST_SHIFT: Final = (4.0, 3.0, 3.0)
"""In lightness (0 to 100) and the two colour axes of CIELAB."""
LARGEST_RATIO: Final = 1.1
_COLOURLESS: Final = 1.5
"""A picture with a smaller mean distance from grey in CIELAB has no colours."""
_CLEARLY_CHANGED: Final = 6.0
"""Pixels that differ from the target by more levels were clearly changed by the swapper."""


def soft_mask(side: int, scale: float) -> Field:
    """1 on the face, 0 around it, with a soft edge. `scale` is the number of pixels of the crop
    per pixel of the scene."""
    depth = _depth(side)
    feather = max(1.0, min(FEATHER * side, WIDEST_FEATHER * scale))
    slope = np.clip(depth * (min(_RADII) * side / feather), 0, 1)
    return np.asarray(slope * slope * (3 - 2 * slope), dtype=np.float32)


def _depth(side: int) -> Field:
    """The depth of each pixel in the face's outline: 1 in the centre, 0 on it, negative outside."""
    steps = (np.arange(side, dtype=np.float32) + 0.5) / side
    across, down = (
        np.abs((steps - centre) / radius) ** _ROUNDNESS
        for centre, radius in zip(_CENTRE, _RADII, strict=True)
    )
    return np.asarray(1 - (down[:, None] + across[None]) ** (1 / _ROUNDNESS), dtype=np.float32)


def matched(swapped: Pixels, target: Pixels, alpha: Field) -> Pixels:
    """Match the mean and the spread of the swapped crop's colours to the target's.

    Swappers keep the scene's light, so this corrects only a slight colour cast. The correction is
    limited, to keep the character's complexion, and spares pixels that the swapper did not change.
    In a picture without colours, it removes all colour.
    """
    shown = alpha > 0.5
    if not shown.any():
        return swapped
    here, there = lab(swapped), lab(target)
    colourless = np.abs(there[shown][:, 1:]).mean() < _COLOURLESS
    if colourless:
        here[..., 1:] = 0
    most = np.array(LARGEST_SHIFT)
    mean, wanted = here[shown].mean(axis=0), there[shown].mean(axis=0)
    shift = np.clip(wanted - mean, -most, most)
    ratio = (there[shown].std(axis=0) + 1) / (here[shown].std(axis=0) + 1)
    ratio = np.clip(ratio, 1 / LARGEST_RATIO, LARGEST_RATIO)
    change = (here - mean) * (ratio - 1) + shift
    if not colourless:
        change *= _changed(swapped, target)[..., None]
    return _rgb((here + change).astype(np.float32))


def _changed(swapped: Pixels, target: Pixels) -> Field:
    """0 where the swapper did not change the target, up to 1 where it clearly did."""
    import cv2

    levels = cv2.absdiff(swapped, target).max(axis=2).astype(np.float32)
    side = max(3, len(swapped) // 32)
    return np.asarray(np.clip(cv2.blur(levels, (side, side)) / _CLEARLY_CHANGED, 0, 1))


def lab(crop: NDArray[Any]) -> Field:
    """A crop's colours in CIELAB."""
    import cv2

    return np.asarray(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _rgb(colours: Field) -> Pixels:
    import cv2

    return np.rint(cv2.cvtColor(colours, cv2.COLOR_LAB2RGB) * 255).clip(0, 255).astype(np.uint8)
