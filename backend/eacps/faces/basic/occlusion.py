"""Detects occlusions of a face, such as hair, hands, a mask or glasses."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from eacps.faces.basic.colour import lab
from eacps.faces.basic.landmarks import BROWS, CORE, EYES, LIPS, NOSTRILS, Points, outline
from eacps.faces.basic.raster import (
    Shape,
    blurred,
    enlarged,
    filled,
    filled_parts,
    grown,
    opened,
    shape_of,
    shrunk,
    shrunk_image,
)
from eacps.faces.protocol import Field, Pixels

WORK_SIDE = 160
"""Maximum size of the face for this analysis. Lengths below are relative to the face's side."""

START = np.array([12.0, 6.0, 6.0])
"""How far skin may differ in LAB from the skin around the bridge of the nose."""

TOLERANCE = np.array([10.0, 3.5, 3.5])
"""Added to the variation of every skin."""

SURE, LIKELY = 3.4, 2.3
"""In standard deviations: a pixel above the first is not skin, and neither is one above the second
that is connected to such a pixel."""

FOREIGN = 3.6
"""In standard deviations: pixels above this are ignored when estimating the skin."""

HAIRY = 0.6
"""Above the brows, distances are increased by this share, because hair is likely there."""

MIN_AREA = 0.004
"""Smaller occlusions, relative to the face's area, are ignored as moles, highlights or noise."""

THINNEST = 0.012
EDGE = 0.04
"""Width of the face's edge, which every occlusion must touch."""

SURROUNDED = 0.65
"""Eyes, brows, mouth and nostrils are not skin. They count as covered if this share of their
surroundings is covered."""

HIDDEN = 0.8
"""They also count as covered if this share of their own area does not look like skin."""

AROUND, SURROUNDINGS = 0.035, 0.06
ROUNDS = 5
RIDGE = 1e-6 * np.eye(3)
MIN_SKIN = 64
FEATURES = (*EYES, *BROWS, LIPS, NOSTRILS)


def covered(picture: Pixels, points: Points, side: float, grow: float) -> Field:
    """The occlusion of each pixel, from 0 to 1.

    Occlusions are dilated by `grow`, relative to the face's side.
    """
    scale = min(1.0, WORK_SIDE / max(side, 1.0))
    height, width = shape_of(picture)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    factor = np.array([shape[1] / width, shape[0] / height])
    found = _in_front(shrunk_image(picture, shape), points[:, :2] * factor, side * scale)
    found = blurred(grown(found, grow * side * scale), THINNEST * side * scale)
    return enlarged(found, (height, width))


def features(shape: Shape, points: Points, grow: float) -> Field:
    """1 on eyes, brows, lips and nostrils, dilated by `grow` pixels."""
    return grown(filled_parts(shape, points, (*EYES, *BROWS, LIPS, NOSTRILS)), grow)


def _in_front(picture: Pixels, points: Points, side: float) -> Field:
    shape = shape_of(picture)
    face = filled(shape, outline(points, 1.0))
    parts = [grown(filled(shape, points[list(part)]), AROUND * side) for part in FEATURES]
    feature = np.maximum.reduce(parts)
    bare = face * (1 - feature)
    if bare.sum() < MIN_SKIN:
        return np.zeros(shape, dtype=np.float32)
    colours = blurred(lab(picture.astype(np.float32)), THINNEST * side)
    core = filled(shape, points[list(CORE)]) * bare
    away = _distance(colours, core if core.sum() > 16 else bare, bare)
    away *= 1 + HAIRY * (face - filled(shape, outline(points, 0.0)))
    sure, likely = ((away > limit) & (bare > 0) for limit in (SURE, LIKELY))
    hidden = [part for part in parts if _share(away > SURE, part) > HIDDEN]
    edge = np.maximum.reduce(
        [face - shrunk(face, EDGE * side), *(grown(part, 1) for part in hidden)]
    )
    found = _reaching_in(opened(_touching(sure, likely), THINNEST * side), edge, side)
    for part in parts:
        ring = grown(part, SURROUNDINGS * side) * bare
        if _share(found, ring) > SURROUNDED:
            hidden.append(part)
    return np.asarray(np.maximum.reduce([found, *hidden]))


def _share(found: Field | NDArray[np.bool_], part: Field) -> float:
    return float((found * part).sum() / max(float(part.sum()), 1.0))


def _distance(colours: Field, core: Field, face: Field) -> Field:
    """The distance of each pixel from this face's skin, in standard deviations.

    The model of the skin's colour is a plane over the face, fitted robustly.
    """
    height, width = shape_of(face)
    inside = face > 0
    down, right = np.mgrid[0:height, 0:width]
    terms = np.stack([np.ones_like(down), right / width - 0.5, down / height - 0.5], axis=-1)
    terms = terms.astype(np.float64)
    start = np.median(colours[core > 0], axis=0)
    away = np.linalg.norm((colours - start) / START, axis=-1)
    for _ in range(ROUNDS):
        # Student's t weights with a cutoff: shadows count little, hands and masks not at all.
        known = away[inside]
        weight = np.sqrt(np.where(known < FOREIGN, 4 / (3 + known**2), 0))[:, None]
        if (weight > 0).sum() < MIN_SKIN:
            break
        rows = terms[inside] * weight
        plane = np.linalg.solve(_products(rows, rows), _products(rows, colours[inside] * weight))
        rest = colours - cv2.transform(terms, plane.T)
        skin = rest[inside] * weight
        spread = _products(skin, skin) / (weight > 0).sum() + np.diag(TOLERANCE**2)
        whitening = np.linalg.inv(np.linalg.cholesky(spread))
        away = np.linalg.norm(cv2.transform(rest.astype(np.float64), whitening), axis=-1)
    return np.asarray(away, dtype=np.float32)


def _products(left: Points, right: Points) -> Points:
    """left^T right plus a ridge; einsum avoids the thread pool of numpy's matmul."""
    return np.asarray(np.einsum("ni,nj->ij", left, right)) + RIDGE


def _touching(sure: NDArray[np.bool_], likely: NDArray[np.bool_]) -> Field:
    """The likely pixels that are connected to a sure one."""
    count, labels = cv2.connectedComponents((sure | likely).astype(np.uint8))
    return _chosen(np.asarray(labels), count, np.unique(labels[sure]))


def _reaching_in(found: Field, edge: Field, side: float) -> Field:
    """The components that are large enough and touch the edge."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    at_edge = np.unique(labels[(edge > 0) & (found > 0)])
    areas = np.asarray(statistics)[:, cv2.CC_STAT_AREA]
    large = at_edge[areas[at_edge] > MIN_AREA * side**2]
    return _chosen(np.asarray(labels), len(areas), large)


def _chosen(labels: NDArray[np.integer], count: int, wanted: NDArray[np.integer]) -> Field:
    """1 at the wanted labels; label 0 is the background."""
    is_wanted = np.zeros(count, dtype=np.float32)
    is_wanted[wanted] = 1
    is_wanted[0] = 0
    return np.asarray(is_wanted[labels], dtype=np.float32)
