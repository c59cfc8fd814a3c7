"""Detects faces with InsightFace's SCRFD, also in large scenes and in close-ups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from eacps.faces.protocol import Face, Pixels

LARGEST: Final = 1280
USUAL: Final = 640
_MAX_ASPECT_RATIO: Final = 8
"""Images with a larger aspect ratio are padded, because the detector would scale their shorter side
to almost nothing."""


class FaceSearch:
    """Searches an image, and if it finds no face, again with a wide margin."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector

    def faces(self, image: Pixels) -> Sequence[Face]:
        """Detect the faces of an image, largest first."""
        small, scale = _shrunk(image)
        # The library expects BGR.
        found: list[Face] = []
        for margin in (_min_margin(small), max(small.shape[:2]) // 2):
            found = self._within(_padded(small, margin)[..., ::-1], margin, scale, image)
            if found:
                break
        return sorted(found, key=lambda face: -face.area)

    def _within(self, framed: Pixels, margin: int, scale: float, image: Pixels) -> list[Face]:
        sizes = [(USUAL, USUAL)]
        if max(framed.shape) > USUAL * 1.5:
            sizes.append((LARGEST, LARGEST))
        framed = np.ascontiguousarray(framed)
        boxes, points = self._detector.detect(framed, input_size=sizes)
        height, width = image.shape[:2]
        faces = []
        for row, five in zip(boxes, points, strict=True):
            box = (row[:4] - margin) / scale
            box = np.clip(box, 0, [width, height, width, height]).astype(np.float32)
            if min(box[2:] - box[:2]) >= 1 and np.isfinite(five).all():
                own = ((five - margin) / scale).astype(np.float32)
                faces.append(Face(box=box, points=own, score=float(row[4])))
        return faces


def _shrunk(image: Pixels) -> tuple[Pixels, float]:
    """The image, shrunk by averaging to at most 1280 px per side, and the scale."""
    import cv2

    scale = min(1.0, LARGEST / max(image.shape[:2]))
    if scale == 1:
        return image, scale
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _min_margin(image: Pixels) -> int:
    height, width = image.shape[:2]
    slender = max(height, width) > _MAX_ASPECT_RATIO * min(height, width)
    return max(height, width) // _MAX_ASPECT_RATIO if slender else 0


def _padded(image: Pixels, margin: int) -> Pixels:
    import cv2

    if margin == 0:
        return image
    sides = (margin, margin, margin, margin)
    return np.asarray(cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE), np.uint8)
