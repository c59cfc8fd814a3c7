"""How a metric's raw value becomes a number where higher is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricRange:
    """Raw values from `worst` to `best` become 0 to 1. What lies beyond goes on beyond: clipping
    would make different candidates equal.

    >>> MetricRange(worst=1, best=0).normalised(0.25)
    0.75
    """

    worst: float
    best: float

    def normalised(self, value: float) -> float:
        """The raw value on the scale where 0 is bad and 1 is good."""
        return (value - self.worst) / (self.best - self.worst)
