"""The upright square crop around a face for the swapper, and mapping it back to the scene.

Matrices are 2 x 3 and map pixels of the scene (or of another crop) to the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eacps.errors import FaceError
from eacps.faces.protocol import Field, Pixels

SIDE: Final = 128
"""The side of the crop that inswapper was trained on."""
_MARGIN: Final = 2
Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """A rectangle of the scene, in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def alignment(points: Field, side: int) -> Matrix:
    """The matrix from the scene to a crop of `side` pixels, from a face's five points."""
    from insightface.utils import face_align

    # Always estimate at 128: for sides that are also multiples of 112, such as 896, the library
    # frames the face more tightly than the swapper expects.
    matrix = np.asarray(face_align.estimate_norm(points, SIDE), dtype=np.float64) * (side / SIDE)
    if not np.isfinite(matrix).all() or scale_of(matrix) <= 0:
        raise FaceError(
            "The face cannot be aligned: its eyes, nose and mouth coincide.",
            hint="Use a picture that shows the face larger.",
        )
    return matrix


def scale_of(matrix: Matrix) -> float:
    """Pixels of the crop per pixel of the scene."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def inverse(matrix: Matrix) -> Matrix:
    """The inverse transform."""
    return np.asarray(np.linalg.inv(_square(matrix))[:2], dtype=np.float64)


def chained(first: Matrix, then: Matrix) -> Matrix:
    """The composition of two transforms."""
    return (_square(then) @ _square(first))[:2]


def _square(matrix: Matrix) -> Matrix:
    return np.vstack([matrix, [0.0, 0.0, 1.0]])


def bounds_of(matrix: Matrix, side: int, scene: Pixels) -> Bounds:
    """The part of the scene that a crop shows."""
    corners = np.array([[0, 0, 1], [side, 0, 1], [side, side, 1], [0, side, 1]], dtype=np.float64)
    corners = corners @ inverse(matrix).T
    height, width = scene.shape[:2]
    left, top = np.floor(corners.min(axis=0)).astype(int) - _MARGIN
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + _MARGIN
    bounds = Bounds(max(0, left), max(0, top), min(width, right), min(height, bottom))
    if min(bounds.size) <= 0:
        raise FaceError("The face lies outside of its image.", hint="Use another image.")
    return bounds


def cut(scene: Pixels, matrix: Matrix, side: int) -> Pixels:
    """Cut a crop out of a scene, replicating the scene's border."""
    bounds = bounds_of(matrix, side, scene)
    piece = scene[bounds.top : bounds.bottom, bounds.left : bounds.right]
    from_piece = chained(_shift(bounds.left, bounds.top), matrix)
    return np.asarray(resampled(piece, from_piece, (side, side)), dtype=np.uint8)


def paste_back(crop: NDArray[Any], matrix: Matrix, bounds: Bounds) -> NDArray[Any]:
    """Transform a crop back to a part of the scene, replicating the crop's border."""
    to_bounds = chained(inverse(matrix), _shift(-bounds.left, -bounds.top))
    return resampled(crop, to_bounds, bounds.size)


def resampled(image: NDArray[Any], matrix: Matrix, size: tuple[int, int]) -> NDArray[Any]:
    """Transform an image; shrinks by averaging, to avoid aliasing."""
    import cv2

    scale = scale_of(matrix)
    if scale < 0.5:
        height, width = image.shape[:2]
        # To twice the final scale; from there, interpolation averages enough and blurs less.
        small = (max(1, round(width * scale * 2)), max(1, round(height * scale * 2)))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        across, down = width / small[0], height / small[1]
        # OpenCV's pixel centres are at integers, which adds an offset of half a pixel.
        enlarge = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
        matrix = chained(enlarge, matrix)
    smooth = cv2.INTER_CUBIC if scale > 1 and image.dtype == np.uint8 else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, size, flags=smooth, borderMode=cv2.BORDER_REPLICATE)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
