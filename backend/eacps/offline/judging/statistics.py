"""How well scores agree with the truth inside tasks, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Final

RESAMPLES: Final = 1000
BINS: Final = 10


@dataclass(frozen=True)
class Group:
    """The candidates of one task: the truth (higher is better), and the judge's values."""

    truth: Sequence[float]
    values: Sequence[float | None]

    @property
    def pairs(self) -> list[tuple[float | None, float | None]]:
        """The values of every pair with different truths, the better one's first."""
        found = []
        for one, other in combinations(range(len(self.truth)), 2):
            if self.truth[one] != self.truth[other]:
                best, worst = sorted((one, other), key=lambda place: -self.truth[place])
                found.append((self.values[best], self.values[worst]))
        return found


@dataclass(frozen=True)
class Share:
    """A mean over tasks with its 95 % interval (bootstrap over tasks), and the number of tasks."""

    mean: float
    low: float
    high: float
    tasks: int


def share(
    groups: Sequence[Group], measure: Callable[[Group], float | None], seed: int = 7
) -> Share | None:
    """The mean of a measure over the tasks that have it; None if none has."""
    values = [value for group in groups if (value := measure(group)) is not None]
    if not values:
        return None
    chance = Random(seed)  # noqa: S311 - a resampling that repeats
    means = sorted(
        math.fsum(chance.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES)
    )
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return Share(math.fsum(values) / len(values), low, high, len(values))


def auc(group: Group) -> float | None:
    """How often the better of two scores higher; ties count half, pairs without values nothing."""
    points = [
        1.0 if best > worst else 0.5 if best == worst else 0.0
        for best, worst in group.pairs
        if best is not None and worst is not None
    ]
    return math.fsum(points) / len(points) if points else None


def accuracy(group: Group) -> float | None:
    """The share of pairs that are put in the right order; a tie or a missing value is wrong."""
    points = [
        float(best is not None and worst is not None and best > worst)
        for best, worst in group.pairs
    ]
    return math.fsum(points) / len(points) if points else None


def all_right(group: Group) -> float | None:
    """1 if every pair is in the right order, as EditReward-Bench counts groups."""
    right = accuracy(group)
    return None if right is None else float(right == 1)


def best_chosen(group: Group) -> float | None:
    """The chance that the choice by the values is one of the best; equal values share it."""
    known = [
        (value, truth)
        for value, truth in zip(group.values, group.truth, strict=True)
        if value is not None
    ]
    if not known or len(set(group.truth)) < 2:
        return None
    top = max(value for value, _ in known)
    chosen = [truth for value, truth in known if value == top]
    return sum(truth == max(group.truth) for truth in chosen) / len(chosen)


def ties(group: Group) -> float | None:
    """The share of pairs whose values are equal."""
    known = [(a, b) for a, b in group.pairs if a is not None and b is not None]
    return sum(a == b for a, b in known) / len(known) if known else None


def missing(group: Group) -> float | None:
    """The share of candidates without a value."""
    return sum(value is None for value in group.values) / len(group.values)


def rank_correlation(group: Group) -> float | None:
    """Spearman's correlation of values and truth among three candidates or more."""
    known = [
        (value, truth)
        for value, truth in zip(group.values, group.truth, strict=True)
        if value is not None
    ]
    if len(known) < 3:
        return None
    first, second = ranks([value for value, _ in known]), ranks([truth for _, truth in known])
    if len(set(second)) < 2:
        return None
    return correlation(first, second)


def calibration_error(groups: Sequence[Group]) -> float | None:
    """The mean difference between values and the truth in ten bins; only where both are shares."""
    pairs = [
        (value, truth)
        for group in groups
        for value, truth in zip(group.values, group.truth, strict=True)
        if value is not None
    ]
    if not pairs or any(not (0 <= a <= 1 and 0 <= b <= 1) for a, b in pairs):
        return None
    bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for value, truth in pairs:
        bins[min(BINS - 1, int(value * BINS))].append((value, truth))
    gaps = [abs(math.fsum(a - b for a, b in each)) for each in bins]
    return math.fsum(gaps) / len(pairs)


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share the mean of theirs.

    >>> ranks([5.0, 1.0, 5.0])
    [1.5, 0.0, 1.5]
    """
    order = sorted(values)
    first = {value: order.index(value) for value in values}
    return [first[value] + (order.count(value) - 1) / 2 for value in values]


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation; 0 if either does not vary."""
    middle = [math.fsum(each) / len(each) for each in (first, second)]
    one = [value - middle[0] for value in first]
    other = [value - middle[1] for value in second]
    size = math.sqrt(math.fsum(x * x for x in one) * math.fsum(y * y for y in other))
    return math.fsum(x * y for x, y in zip(one, other, strict=True)) / size if size else 0.0
