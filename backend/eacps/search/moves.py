"""How children arise from a parent: the settings that strategies with children share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

# Below this angle a child is, in half precision, hardly more than a copy of its parent.
SMALLEST_ANGLE = 0.01

MoveKind = Literal["noise", "seed"]
Moves = Annotated[
    MoveKind,
    Field(
        description="how children arise: `noise` turns the parent's noise by an angle, "
        "`seed` adds an offset to its seed, which gives unrelated noise"
    ),
]
Angle = Annotated[
    float,
    Field(
        ge=SMALLEST_ANGLE,
        le=1.57,
        description="radians between parent and child; their noises correlate by its cosine",
    ),
]
AngleDecay = Annotated[
    float,
    Field(
        ge=0.1,
        le=1.0,
        description="annealing: factor on the angle from one local round to the next "
        f"(never below {SMALLEST_ANGLE})",
    ),
]


def annealed(angle: float, decay: float, rounds_before: int) -> float:
    """The angle after so many rounds, each of which shrank it by the factor `decay`.

    >>> annealed(0.4, 0.5, 0), annealed(0.4, 0.5, 2), annealed(0.4, 0.5, 99)
    (0.4, 0.1, 0.01)
    """
    return max(SMALLEST_ANGLE, angle * decay**rounds_before)
