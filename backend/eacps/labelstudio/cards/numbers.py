"""Formats numbers for cards and reports."""

from __future__ import annotations

import math

_ABSENT = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """A measured value, or a dash if there is none."""
    if value is None or not math.isfinite(value):
        return _ABSENT
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def weight(value: float) -> str:
    """A factor with a times sign, as short as possible."""
    return f"{_TIMES}{value:g}".replace("-", _MINUS)


def signed(value: float) -> str:
    """A measured value, always with its sign."""
    return f"{'+' if value >= 0 else _MINUS}{number(abs(value))}"


def percent(share: float) -> str:
    """A share from 0 to 1 as a percentage."""
    return f"{share:.0%}"


def bar_width(share: float) -> str:
    """A share as the width of a bar; 0 if it is not finite."""
    return percent(min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0)
