"""Types and checks that the parameters of several strategies share."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from eacps.search.moves import MIN_ANGLE

# Without strict mode, pydantic would read true as 1 and "8" as 8.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

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
        ge=MIN_ANGLE,
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
        f"(never below {MIN_ANGLE})",
    ),
]

PairwiseElites = Annotated[
    int,
    Field(
        ge=0,
        le=12,
        description="how many candidates that nearly tie for going on a judge that reads language "
        "compares in pairs, so that the stronger ones go on; 0 or 1: none",
    ),
]

DuplicateSimilarity = Annotated[
    float,
    Field(
        ge=-1,
        le=1,
        description="a preview that is more similar to a better one is dropped; 1 drops none",
    ),
]
Share = Annotated[float, Field(gt=0, le=1)]
Keep = Annotated[int, Field(ge=1, le=1_000_000)]
Rung = Annotated[tuple[Share, Keep], Field(strict=False)]


def _in_order(rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
    for (share, keep), (next_share, next_keep) in pairwise(rungs):
        if next_share <= share:
            raise ValueError(f"the share {next_share} must be greater than {share} before it")
        if next_keep > keep:
            raise ValueError(f"cannot keep {next_keep} of {keep}")
    return rungs


# `strict=False`, because JSON has lists but no tuples.
Rungs = Annotated[tuple[Rung, ...], Field(strict=False, max_length=100), AfterValidator(_in_order)]

AtLeast = Annotated[
    dict[str, Annotated[float, Field(strict=True)]],
    Field(
        description="scores that must not be lower, such as "
        '`{"potential": 9, "pf": 0.28}`; `potential` is the potential itself',
        default_factory=dict,
        json_schema_extra={"default": {}},
    ),
]
AtMost = Annotated[
    dict[str, Annotated[float, Field(strict=True)]],
    Field(
        description='scores that must not be higher, such as `{"lpips": 0.2}`',
        default_factory=dict,
        json_schema_extra={"default": {}},
    ),
]
Lowest = Annotated[
    float,
    Field(ge=-1e6, le=1e6, description="the potential that counts as 0 where there is no verifier"),
]
Highest = Annotated[
    float,
    Field(ge=-1e6, le=1e6, description="the potential that counts as 1 where there is no verifier"),
]


def require_less(**settings: float) -> None:
    """Raise ValueError unless the first of two named settings is less than the second.

    >>> require_less(lowest=4.0, highest=4.0)
    Traceback (most recent call last):
    ValueError: lowest (4.0) must be less than highest (4.0)
    """
    (name, value), (other_name, other) = settings.items()
    if value >= other:
        raise ValueError(f"{name} ({value}) must be less than {other_name} ({other})")


def require_at_most(**settings: float) -> None:
    """Raise ValueError if the first of two named settings is greater than the second."""
    (name, value), (other_name, other) = settings.items()
    if value > other:
        raise ValueError(f"{name} ({value}) must not be greater than {other_name} ({other})")
