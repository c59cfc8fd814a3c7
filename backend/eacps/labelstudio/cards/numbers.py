"""How numbers are written on cards and in reports."""

from __future__ import annotations

import math

_ABSENT = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """A measured value; a dash if there is none."""
    if value is None or not math.isfinite(value):
        return _ABSENT
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def weight(value: float) -> str:
    """A factor: the times sign and a value as short as it can be."""
    return f"{_TIMES}{value:g}".replace("-", _MINUS)


def signed(value: float) -> str:
    """A measured value with its sign, even if that is a plus."""
    return f"{'+' if value >= 0 else _MINUS}{number(abs(value))}"


def percent(share: float) -> str:
    """A share of 0 to 1."""
    return f"{share:.0%}"


def bar_width(share: float) -> str:
    """A share as the width of a bar, which is empty if the share is not finite."""
    return percent(min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0)
