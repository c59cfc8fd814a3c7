"""Operations on masks and pixels; lengths are in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from eacps.faces.protocol import Field, Pixels

Shape: TypeAlias = tuple[int, int]
"""Height and width."""

_WIDE = 8
_FAR = 30_000
"""OpenCV does not draw polygons with coordinates beyond 16 bits."""


def shape_of(image: Pixels | Field) -> Shape:
    """Height and width of an image."""
    return (int(image.shape[0]), int(image.shape[1]))


def filled(shape: Shape, polygon: NDArray[np.floating]) -> Field:
    """1 inside the polygon's convex hull, 0 outside."""
    canvas = np.zeros(shape, dtype=np.uint8)
    corners = np.round(polygon[:, :2]).clip(-_FAR, _FAR).astype(np.int32)
    cv2.fillConvexPoly(canvas, cv2.convexHull(corners), 1)
    return canvas.astype(np.float32)


def filled_parts(
    shape: Shape, points: NDArray[np.floating], parts: Sequence[Sequence[int]]
) -> Field:
    """1 inside any of the parts of a mesh, 0 outside."""
    return np.asarray(np.maximum.reduce([filled(shape, points[list(part)]) for part in parts]))


def grown(mask: Field, radius: float) -> Field:
    """Dilate the mask by the radius."""
    return np.asarray(cv2.dilate(mask, _brush(radius)), dtype=np.float32)


def shrunk(mask: Field, radius: float) -> Field:
    """Erode the mask by the radius."""
    return np.asarray(cv2.erode(mask, _brush(radius)), dtype=np.float32)


def opened(mask: Field, radius: float) -> Field:
    """Remove parts of the mask that are narrower than twice the radius."""
    return grown(shrunk(mask, radius), radius)


def blurred(field: Field, reach: float) -> Field:
    """Gaussian blur with this standard deviation."""
    if reach < _WIDE:
        return np.asarray(cv2.GaussianBlur(field, (0, 0), max(reach, 0.5)), dtype=np.float32)
    # A wide blur gives the same result at a smaller size, and is much faster.
    height, width = shape_of(field)
    size = (max(1, width * _WIDE // round(2 * reach)), max(1, height * _WIDE // round(2 * reach)))
    small = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), reach * size[0] / width)
    return enlarged(np.asarray(soft, dtype=np.float32), (height, width))


def depth(mask: Field) -> Field:
    """The distance of each pixel to the outside of the mask, which excludes the image's border."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5))


def shrunk_image(image: Pixels, shape: Shape) -> Pixels:
    """The image at a smaller size."""
    if shape_of(image) == shape:
        return image
    small = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def enlarged(field: Field, shape: Shape) -> Field:
    """A smooth field at a larger size."""
    if shape_of(field) == shape:
        return field
    large = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, dtype=np.float32)


def sampled(image: Pixels | Field, places: Field) -> Field:
    """Sample the image at these positions (x, y); its border is replicated."""
    right, down = cv2.split(places)
    found = cv2.remap(image, right, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.float32)


def to_pixels(values: Field) -> Pixels:
    """Round to 8-bit pixels."""
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _brush(radius: float) -> NDArray[np.uint8]:
    width = 2 * max(0, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)), dtype=np.uint8)
