"""The warp from the character's face to the target's."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator  # type: ignore[import-untyped]
from scipy.spatial import Delaunay  # type: ignore[import-untyped]
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped]

from eacps.faces.basic.landmarks import EYES, LIPS, MOUTH, OVAL, Points, size_of
from eacps.faces.basic.raster import Shape
from eacps.faces.protocol import Field

Indices: TypeAlias = NDArray[np.intp]

SETTLED = 0.22
"""Points at least this far inside the oval, relative to the face's side, move freely."""

MARGINS = (1.15, 1.5)
"""Factors of enlarged ovals, which extend the map beyond the face to avoid a torn edge."""

CALM = 0.10
"""Parts of eyes and mouth closer than this, relative to the face's side, move together: their
positions and widths come from the character, their openings from the target."""

STRIDE = 3
"""The map is computed at every third pixel and interpolated, because it is smooth."""


def posed(points: Points, like: Points) -> Points:
    """Rotate, scale and shift a mesh onto another one."""
    centre, other = points.mean(0), like.mean(0)
    turn, _ = Rotation.align_vectors(like - other, points - centre)
    scale = np.sqrt(((like - other) ** 2).sum() / max(((points - centre) ** 2).sum(), 1e-9))
    return np.asarray(scale * turn.apply(points - centre) + other)


def shaped(target: Points, character: Points, shape: float) -> Points:
    """The target's points, with inner ones moved towards the character's proportions."""
    side = size_of(target)
    oval = target[list(OVAL), :2].astype(np.float32)
    inside = [cv2.pointPolygonTest(oval, (float(x), float(y)), True) for x, y in target[:, :2]]
    freedom = np.clip(np.array(inside) / (SETTLED * side), 0, 1)[:, None]
    move = (posed(character, target) - target)[:, :2]
    calm = [index for part in (*EYES, LIPS, MOUTH) for index in part]
    apart = np.linalg.norm(target[calm, None, :2] - target[None, :, :2], axis=2)
    weight = np.exp(-0.5 * (apart / (CALM * side)) ** 2)
    move[calm] = weight @ move / weight.sum(1, keepdims=True)
    moved = target.copy()
    moved[:, :2] += shape * freedom * move
    return moved


def facing(points: Points, frontal: Points) -> Indices:
    """The visible points of a mesh; `frontal` is the same mesh seen from the front."""
    triangles = Delaunay(frontal[:, :2]).simplices
    same = np.sign(_areas(points, triangles)) == np.sign(_areas(frontal, triangles))
    return np.asarray(np.unique(triangles[same]), dtype=np.intp)


def _areas(points: Points, triangles: Indices) -> Points:
    first, second, third = (points[triangles[:, corner], :2] for corner in range(3))
    one, two = second - first, third - first
    return np.asarray(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])


def backward_map(destination: Points, origin: Points, kept: Indices, shape: Shape) -> Field:
    """For each pixel of a field of this shape, the corresponding point of the origin."""
    there, here = _with_margin(destination, kept), _with_margin(origin, kept)
    there, first = np.unique(there.round(3), axis=0, return_index=True)
    rows, columns = (np.arange(0, length + STRIDE, STRIDE) for length in shape)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).astype(np.float64)
    coarse = LinearNDInterpolator(there, here[first] - there)(grid)
    outside = np.isnan(coarse[..., 0])
    coarse[outside] = 0
    coarse = (coarse + grid).astype(np.float32)
    return _at_every_pixel(coarse, shape)


def _at_every_pixel(coarse: Field, shape: Shape) -> Field:
    matrix = np.array([[1 / STRIDE, 0, 0], [0, 1 / STRIDE, 0]], dtype=np.float32)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(coarse, matrix, shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(fine, dtype=np.float32)


def _with_margin(points: Points, kept: Indices) -> Points:
    flat = points[:, :2]
    oval = flat[list(OVAL)]
    centre = oval.mean(0)
    rings = [centre + factor * (oval - centre) for factor in MARGINS]
    return np.concatenate([flat[kept], *rings])
