"""Detects faces with YuNet."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from eacps.faces.basic.loading import buffer, loading
from eacps.faces.download import DETECTOR
from eacps.faces.geometry import overlap
from eacps.faces.protocol import Face, Pixels

SIDES = (1280, 640, 320)
"""The sizes at which an image is searched, because YuNet detects faces of 10 to 300 pixels."""

MIN_SIDE = 16
"""Images with a shorter side are not searched."""

MIN_FACE = 4.0
MIN_SCORE = 0.6
SAME_FACE = 0.3
"""Boxes with a larger intersection over union are the same face."""

QUARTERS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180)


class Detector:
    """Detects faces of any size, including ones that fill the frame or are rotated."""

    def __init__(self, weights: bytes) -> None:
        with loading(DETECTOR):
            self._net = cv2.FaceDetectorYN.create(
                "onnx", buffer(weights), np.empty(0, np.uint8), (320, 320), MIN_SCORE, SAME_FACE
            )

    def __call__(self, image: Pixels) -> list[Face]:
        """Detect the faces of an image, largest first."""
        if min(image.shape[:2]) < MIN_SIDE:
            return []
        pixels = np.ascontiguousarray(image[..., ::-1])
        height, width = pixels.shape[:2]
        sides = [side for side in SIDES if side == SIDES[-1] or side < 2 * max(height, width)]
        found = _merged(chain.from_iterable(self._at(pixels, side) for side in sides))
        # Faces that fill the frame are detected only with a margin.
        found = found or _merged(
            chain.from_iterable(self._at(pixels, side, padded=True) for side in SIDES[1:])
        )
        for turn in QUARTERS:
            if found:
                break
            turned = self._at(np.asarray(cv2.rotate(pixels, turn), np.uint8), 640, padded=True)
            found = [_turned_back(face, turn, width, height) for face in _merged(turned)]
        return sorted(found, key=lambda face: -face.area)

    def _at(self, pixels: Pixels, side: int, *, padded: bool = False) -> list[Face]:
        height, width = pixels.shape[:2]
        scale = min(1.0, side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        margin = max(size) // 2 if padded else 0
        # YuNet fails on images smaller than its strides.
        right, bottom = (margin + max(0, 32 - edge) for edge in size)
        if max(margin, right, bottom):
            small = cv2.copyMakeBorder(
                small, margin, bottom, margin, right, cv2.BORDER_REPLICATE
            ).astype(np.uint8)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        rows = self._net.detect(small)[1]
        factor = np.array([width / size[0], height / size[1]], dtype=np.float32)
        faces = [_face(np.asarray(row, np.float32), margin, factor) for row in _rows(rows)]
        return [face for face in faces if _is_sane(face, width, height)]


def _rows(found: object) -> NDArray[np.float32]:
    """Convert the detector's result, which is None if there are no faces."""
    return np.empty((0, 15), np.float32) if found is None else np.asarray(found, np.float32)


def _is_sane(face: Face, width: int, height: int) -> bool:
    """Reject impossible boxes, which the network may return for noise."""
    if not np.isfinite(face.box).all() or not np.isfinite(face.points).all():
        return False
    x, y = face.centre
    inside = 0 <= x < width and 0 <= y < height
    return inside and MIN_FACE <= face.side <= 2 * max(width, height)


def _face(row: NDArray[np.float32], margin: int, factor: NDArray[np.float32]) -> Face:
    corner = row[:2] - margin
    box = np.concatenate([corner * factor, (corner + row[2:4]) * factor])
    points = (row[4:14].reshape(5, 2) - margin) * factor
    return Face(box=box.astype(np.float32), points=points.astype(np.float32), score=float(row[14]))


def _merged(faces: chain[Face] | list[Face]) -> list[Face]:
    """Non-maximum suppression."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(overlap(face, other) <= SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _turned_back(face: Face, turn: int, width: int, height: int) -> Face:
    """Map a face in the rotated image back to the original, which has the given size."""
    corners = _point_back(face.box.reshape(2, 2), turn, width, height)
    box = np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)
    return replace(face, box=box, points=_point_back(face.points, turn, width, height))


def _point_back(
    points: NDArray[np.float32], turn: int, width: int, height: int
) -> NDArray[np.float32]:
    x, y = points[:, 0], points[:, 1]
    if turn == cv2.ROTATE_90_CLOCKWISE:
        return np.stack([y, height - x], axis=1)
    if turn == cv2.ROTATE_90_COUNTERCLOCKWISE:
        return np.stack([width - y, x], axis=1)
    return np.stack([width - x, height - y], axis=1)
