"""The indices of the face mesh's 468 points, and measures derived from them."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from eacps.faces.protocol import Field

Points: TypeAlias = NDArray[np.float64]

COUNT = 468
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398),
)
LIDS = ((159, 145, 33, 133), (386, 374, 362, 263))
"""For each eye, the centres of its lids and its corners."""

BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375),
    *(291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
MOUTH = (
    *(78, 191, 80, 81, 82, 13, 312, 311, 310, 415),
    *(308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
)
NOSTRILS = (98, 97, 2, 326, 327, 294, 278, 344, 440, 4, 220, 115, 48, 64)
CORE = (9, 108, 337, 55, 285, 193, 417, 197, 195)
"""Points between the brows and along the bridge of the nose, which are rarely covered."""

BROW_BELOW = {
    **{10: 9, 338: 336, 297: 296, 332: 334, 284: 293, 251: 300},
    **{109: 107, 67: 66, 103: 105, 54: 63, 21: 70},
}
"""The point of the brow below each point of the oval at the hairline."""

TEMPLES, TEMPLE = (251, 284, 21, 54), 0.9
"""Near the outer ends of the brows, the edge must stay close to the hairline."""


def five_points(mesh: Points | Field) -> Field:
    """The eyes, the tip of the nose and the corners of the mouth, as recognisers expect them."""
    groups = ((33, 133), (362, 263), (4,), (61,), (291,))
    return np.stack([mesh[list(group), :2].mean(0) for group in groups]).astype(np.float32)


def yaw_degrees(mesh: Points | Field) -> float:
    """The yaw of the head: 0 is frontal, +-90 is a profile."""
    across = mesh[454] - mesh[234]
    return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))


def ratio(mesh: Points | Field, top: int, bottom: int, left: int, right: int) -> float:
    """The height of an eye or mouth relative to its width."""
    width = np.linalg.norm(mesh[left, :2] - mesh[right, :2])
    return float(np.linalg.norm(mesh[top, :2] - mesh[bottom, :2]) / (width + 1e-6))


def opening(mesh: Points | Field) -> float:
    """The distance of the lips relative to the width of the mouth."""
    return ratio(mesh, 13, 14, 78, 308)


def outline(points: Points, forehead: float) -> Points:
    """The edge of the face, with a share `forehead` of the way from the brows to the hairline."""
    edge = points[list(OVAL), :2].copy()
    for index, point in enumerate(OVAL):
        if point in BROW_BELOW:
            brow = points[BROW_BELOW[point], :2]
            share = max(forehead, TEMPLE) if point in TEMPLES and forehead > 0 else forehead
            edge[index] = brow + share * (edge[index] - brow)
    return edge


def size_of(points: Points | Field) -> float:
    """The square root of the face's area."""
    oval = np.asarray(points[list(OVAL), :2], dtype=np.float32)
    return float(np.sqrt(cv2.contourArea(cv2.convexHull(oval))))
