"""Which of the face mesh's 468 points is what, and what their positions say about a face."""

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
"""Of each eye: the middles of its lids, and its corners."""

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
"""Between the brows and along the nose's bridge, where a face is seldom covered."""

BROW_BELOW = {
    **{10: 9, 338: 336, 297: 296, 332: 334, 284: 293, 251: 300},
    **{109: 107, 67: 66, 103: 105, 54: 63, 21: 70},
}
"""For each point of the oval at the hair line: the point of the brow below it."""

TEMPLES, TEMPLE = (251, 284, 21, 54), 0.9
"""Beside the brows' outer ends the hair line is near: the edge must not cut the ends off."""


def five_points(mesh: Points | Field) -> Field:
    """The eyes, the nose's tip and the mouth's corners, where recognisers expect them."""
    groups = ((33, 133), (362, 263), (4,), (61,), (291,))
    return np.stack([mesh[list(group), :2].mean(0) for group in groups]).astype(np.float32)


def yaw_degrees(mesh: Points | Field) -> float:
    """How far the head is turned: 0 looks into the camera, +-90 is a profile."""
    across = mesh[454] - mesh[234]
    return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))


def ratio(mesh: Points | Field, top: int, bottom: int, left: int, right: int) -> float:
    """How far an eye or a mouth is open: its height in widths."""
    width = np.linalg.norm(mesh[left, :2] - mesh[right, :2])
    return float(np.linalg.norm(mesh[top, :2] - mesh[bottom, :2]) / (width + 1e-6))


def opening(mesh: Points | Field) -> float:
    """How far the lips are apart, in widths of the mouth."""
    return ratio(mesh, 13, 14, 78, 308)


def outline(points: Points, forehead: float) -> Points:
    """The face's edge; at the forehead that share of the way from the brows to the hair line."""
    edge = points[list(OVAL), :2].copy()
    for index, point in enumerate(OVAL):
        if point in BROW_BELOW:
            brow = points[BROW_BELOW[point], :2]
            share = max(forehead, TEMPLE) if point in TEMPLES and forehead > 0 else forehead
            edge[index] = brow + share * (edge[index] - brow)
    return edge


def size_of(points: Points | Field) -> float:
    """The side of a square as large as the face."""
    oval = np.asarray(points[list(OVAL), :2], dtype=np.float32)
    return float(np.sqrt(cv2.contourArea(cv2.convexHull(oval))))
