"""Points brought onto others, and how far two boxes cover each other."""

from __future__ import annotations

from math import cos, sin

import numpy as np
import pytest

from eacps.faces.geometry import overlap, similarity
from eacps.faces.protocol import Face

SQUARE = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [5, 5]], dtype=np.float32)


def face(*box: float) -> Face:
    return Face(box=np.array(box, dtype=np.float32), points=SQUARE, score=1.0)


def test_a_turn_a_scale_and_a_shift_are_found_again() -> None:
    turn = 2 * np.array([[cos(0.3), -sin(0.3)], [sin(0.3), cos(0.3)]])
    moved = SQUARE @ turn.T + [7, -4]
    expected = np.column_stack([turn, [7, -4]])
    np.testing.assert_allclose(similarity(SQUARE, moved), expected, atol=1e-5)


def test_points_that_lie_in_one_spot_give_finite_numbers() -> None:
    assert np.isfinite(similarity(np.full((5, 2), 3, dtype=np.float32), SQUARE)).all()


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((2, 2, 7, 7), 0.25),
        ((10, 0, 20, 10), 0.0),
        ((30, 30, 40, 40), 0.0),
        ((3, 3, 3, 3), 0.0),
    ],
)
def test_boxes_overlap_by_what_they_share_of_what_they_cover(
    box: tuple[float, ...], share: float
) -> None:
    assert overlap(face(0, 0, 10, 10), face(*box)) == pytest.approx(share)
    assert overlap(face(*box), face(0, 0, 10, 10)) == pytest.approx(share)
