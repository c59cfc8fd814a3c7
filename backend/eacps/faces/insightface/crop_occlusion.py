"""What lies in front of a face, seen by what a swap did to it."""

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
"""In spreads of the skin's own colours."""
_LEAST_SPREAD: Final = (9.0, 4.0, 4.0)
"""In lightness and colour; light falls unevenly on a face, so lightness counts less."""
_LEAST_AREA: Final = 0.01
"""Part of the face below which a spot is a mole or noise."""
_LEAST_OUTSIDE: Final = 0.5
"""Part of an occlusion that lies beside eyes, brows and mouth."""
_MOST_COVERED: Final = 0.6
"""Part of the face from which on the skin was probably learnt from something else."""
_FOLLOWED: Final = 12
"""How far an occlusion is followed, in pixels of a crop of 128."""


def occlusion(target: Pixels, swapped: Pixels) -> Field:
    """1 where something in front of the target's face was painted over, 0 elsewhere.

    A swap changes features and complexion, but skin stays skin. So an occlusion is where the
    target is far from its own skin's colour (learnt between its eyes and mouth) while the swapped
    crop shows skin: hair, a hat's brim, a microphone. Eyes, brows and lips differ too, and are
    told by where they lie; so what covers them, such as glasses, is left to the swapper, which
    keeps most of it. Skin in front of skin, such as a bare hand, is not seen either: that takes a
    mask by the annotator.
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
    # A target without a skin of one colour (a mask, a drawing) teaches nothing.
    if kept[inside].mean() > _MOST_COVERED:
        kept[:] = 0
    near = np.ones((3, 3), dtype=np.uint8)
    # Near the swap's own rim an occlusion is half painted over: there it is followed by colour.
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
        if area >= _LEAST_AREA * inside.sum() and outside.sum() >= _LEAST_OUTSIDE * area:
            kept[labels == label] = 1
    return kept


def _distance_from_skin(crop: NDArray[Any]) -> Field:
    """How far each pixel's colour is from the skin's, in spreads of the skin's colours."""
    colours = lab(crop)
    skin = colours[_zones()[0]]
    usual = np.median(skin, axis=0)
    spread = np.maximum(1.5 * np.median(np.abs(skin - usual), axis=0), _LEAST_SPREAD)
    return np.asarray(np.linalg.norm((colours - usual) / spread, axis=2), dtype=np.float32)


@cache
def _zones() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """In a crop of 128 px: where bare skin is likeliest, and where eyes, brows and mouth lie."""
    import cv2

    features = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for centre, axes in (((46, 47), (18, 15)), ((82, 47), (18, 15)), ((64, 92), (24, 13))):
        cv2.ellipse(features, centre, axes, 0, 0, 360, 1, -1)
    middle = np.zeros_like(features)
    cv2.ellipse(middle, (64, 72), (34, 36), 0, 0, 360, 1, -1)
    return (middle > features), features > 0
