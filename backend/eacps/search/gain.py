"""How much another candidate is worth, estimated from the scores seen so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

STANDARD_NORMAL = NormalDist()


def expected_gain(seen: Sequence[float], best: float, *, correlation: float = 0.0) -> float:
    """The expected improvement of the best score by one more draw.

    Scores are assumed to be normally distributed, so the expected improvement of Bayesian
    optimisation has a closed form: with d = (best - mean) / spread, it is
    spread (pdf(d) - d cdf(-d)). A fresh draw has the mean and the spread of the scores seen. A
    child, which correlates with the best score, has the mean
    mean + correlation (best - mean) and the spread times sqrt(1 - correlation^2). A lucky best
    score lowers the gain, and a wide spread raises it. The gain is infinite for fewer than two
    scores, because they say nothing about the spread.

    >>> round(expected_gain([0.1, 0.2, 0.3, 0.4], best=0.4), 3)
    0.011
    >>> round(expected_gain([1.0, 2.0, 3.0, 4.0], best=4.0), 2)
    0.11
    >>> expected_gain([5.0, 5.0, 5.0], best=5.0)
    0.0
    """
    if len(seen) < 2:
        return math.inf
    scale = _scale([*seen, best])
    mean, spread = _moments([value / scale for value in seen])
    # The mean of a few draws is itself uncertain, which widens the range of the next draw.
    spread *= math.sqrt((1 - correlation**2) * (1 + 1 / len(seen)))
    shortfall = (1 - correlation) * (best / scale - mean)
    if spread == 0.0:
        return 0.0
    distance = shortfall / spread
    gain = STANDARD_NORMAL.pdf(distance) - distance * STANDARD_NORMAL.cdf(-distance)
    return scale * spread * max(0.0, gain)


def standard_scores(values: Sequence[float]) -> list[float]:
    """Each value's distance from the mean in standard deviations; 0 when all values are equal.

    >>> standard_scores([-4.0, 0.0, 4.0])
    [-1.0, 0.0, 1.0]
    """
    if len(values) < 2:
        return [0.0 for _ in values]
    scale = _scale(values)
    scaled = [value / scale for value in values]
    mean, spread = _moments(scaled)
    return [(value - mean) / spread if spread else 0.0 for value in scaled]


def _scale(values: Sequence[float]) -> float:
    # Without scaling, sums of squares of very large floats would overflow.
    return max(map(abs, values)) or 1.0


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
