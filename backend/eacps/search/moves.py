"""By how much children differ from their parent."""

from __future__ import annotations

# Below this angle a child is, in half precision, hardly more than a copy of its parent.
SMALLEST_ANGLE = 0.01


def annealed(angle: float, decay: float, rounds_before: int) -> float:
    """The angle after so many rounds, each of which shrank it by the factor `decay`.

    >>> annealed(0.4, 0.5, 0), annealed(0.4, 0.5, 2), annealed(0.4, 0.5, 99)
    (0.4, 0.1, 0.01)
    """
    return max(SMALLEST_ANGLE, angle * decay**rounds_before)
