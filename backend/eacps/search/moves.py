"""How far a child's noise is from its parent's."""

from __future__ import annotations

# In half precision, a child at a smaller angle is hardly more than a copy of its parent.
MIN_ANGLE = 0.01


def annealed(angle: float, decay: float, rounds_before: int) -> float:
    """The angle after `rounds_before` rounds, each of which multiplies it by `decay`.

    >>> annealed(0.4, 0.5, 0), annealed(0.4, 0.5, 2), annealed(0.4, 0.5, 99)
    (0.4, 0.1, 0.01)
    """
    return max(MIN_ANGLE, angle * decay**rounds_before)
