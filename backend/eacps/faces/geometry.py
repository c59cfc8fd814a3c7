"""Geometry of the points and boxes of faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eacps.faces.protocol import Face, Field


def similarity(points: Field, others: NDArray[np.floating]) -> NDArray[np.float64]:
    """The least-squares similarity transform from points to others, as a 2 x 3 matrix."""
    # With complex numbers, rotation and scale are a single factor.
    here, there = (one[:, 0] + 1j * one[:, 1] for one in (points, others))
    centred = here - here.mean()
    spread = max(float((abs(centred) ** 2).sum()), 1e-6)
    factor = (centred.conj() * (there - there.mean())).sum() / spread
    shift = there.mean() - factor * here.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def overlap(one: Face, other: Face) -> float:
    """Intersection over union of two faces' boxes."""
    left, top = np.maximum(one.box[:2], other.box[:2])
    right, bottom = np.minimum(one.box[2:], other.box[2:])
    common = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
    return common / max(one.area + other.area - common, 1e-9)
