"""Detects occlusions of a face by comparing it with its swap."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eacps.faces.insightface.crop_blend import lab, soft_mask
from eacps.faces.insightface.crops import SIDE
from eacps.faces.protocol import Field, Pixels

FAR_FROM_SKIN: Final = 3.0
NEAR_SKIN: Final = 2.0
"""Relative to the spread of the skin's colours."""
_MIN_SPREAD: Final = (9.0, 4.0, 4.0)
"""In LAB; lightness counts less, because light on a face is uneven."""
_MIN_AREA: Final = 0.01
"""Smaller spots, relative to the face's area, are ignored as moles or noise."""
_MIN_OUTSIDE: Final = 0.5
"""Minimum share of an occlusion outside of eyes, brows and mouth."""
_MAX_COVERED: Final = 0.6
"""If a larger share of the face is covered, the estimate of the skin is probably wrong."""
_FOLLOWED: Final = 12
"""How far an occlusion is extended, in pixels of a crop of 128."""


def occlusion(target: Pixels, swapped: Pixels) -> Field:
    """1 where the swap painted over something in front of the face, 0 elsewhere.

    A swap changes features and complexion, but skin remains skin. An occlusion, such as hair, the
    brim of a hat or a microphone, is where the target's colour is far from its skin (estimated
    between eyes and mouth) but the swapped crop shows skin. Eyes, brows and lips also differ and
    are excluded by their position, so objects in front of them, such as glasses, are left to the
    swapper, which preserves them mostly. A bare hand in front of the face is not detected; that
    requires a mask by the annotator.
    """
    import cv2

    small = (SIDE, SIDE)
    before, after = (
        _distance_from_skin(np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA)))
        for image in (target, swapped)
    )
    foreign = ((before > FAR_FROM_SKIN) & (after < NEAR_SKIN)).astype(np.uint8)
    opened = cv2.morphologyEx(foreign, cv2.MORPH_OPEN, np.ones((2, 2), dtype=np.uint8))
    inside = soft_mask(SIDE, 1) > 0
    kept = _large_and_not_features(opened, inside)
    # Without skin of uniform colour (a mask, a drawing), detection is impossible.
    if kept[inside].mean() > _MAX_COVERED:
        kept[:] = 0
    near = np.ones((3, 3), dtype=np.uint8)
    # At the edge of the swap, occlusions are only half painted over: extend them by colour.
    rest: NDArray[Any] = ((before > FAR_FROM_SKIN) & ~_zones()[1]).astype(np.uint8)
    for _ in range(_FOLLOWED):
        kept |= cv2.dilate(kept, near) & rest
    soft = cv2.GaussianBlur(cv2.dilate(kept, near).astype(np.float32), (5, 5), 0)
    return np.asarray(cv2.resize(soft, target.shape[1::-1]), dtype=np.float32)


def _large_and_not_features(foreign: NDArray[Any], inside: NDArray[np.bool_]) -> Any:
    import cv2

    count, labels = cv2.connectedComponents(foreign)
    kept = np.zeros_like(foreign)
    features = _zones()[1]
    for label in range(1, count):
        part = (labels == label) & inside
        area = part.sum()
        outside = part & ~features
        if area >= _MIN_AREA * inside.sum() and outside.sum() >= _MIN_OUTSIDE * area:
            kept[labels == label] = 1
    return kept


def _distance_from_skin(crop: NDArray[Any]) -> Field:
    """The distance of each pixel's colour from the skin's, relative to the skin's spread."""
    colours = lab(crop)
    skin = colours[_zones()[0]]
    usual = np.median(skin, axis=0)
    spread = np.maximum(1.5 * np.median(np.abs(skin - usual), axis=0), _MIN_SPREAD)
    return np.asarray(np.linalg.norm((colours - usual) / spread, axis=2), dtype=np.float32)


@cache
def _zones() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """In a crop of 128 px, where bare skin is most likely, and where eyes, brows and mouth are."""
    import cv2

    features = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for centre, axes in (((46, 47), (18, 15)), ((82, 47), (18, 15)), ((64, 92), (24, 13))):
        cv2.ellipse(features, centre, axes, 0, 0, 360, 1, -1)
    middle = np.zeros_like(features)
    cv2.ellipse(middle, (64, 72), (34, 36), 0, 0, 360, 1, -1)
    return (middle > features), features > 0
