"""Normalises metrics to a scale on which higher is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricRange:
    """Maps `worst` to 0 and `best` to 1, linearly.

    Values outside the range are not clipped, because that would make different candidates equal.

    >>> MetricRange(worst=1, best=0).normalised(0.25)
    0.75
    """

    worst: float
    best: float

    def normalised(self, value: float) -> float:
        """The normalised value."""
        return (value - self.worst) / (self.best - self.worst)
