"""Paired comparisons of searches over tasks, with seeded bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Numbers = NDArray[numpy.float64]
ROUNDS = 4_000
SEED = 20_26
EVEN = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def percent(self, *, signed: bool = False) -> str:
        """As percentages (points, when signed)."""
        form = "+.1f" if signed else ".1f"
        low, high = (format(100 * bound, form) for bound in (self.low, self.high))
        return f"{100 * self.value:{form}} [{low}, {high}]"


@dataclass(frozen=True)
class Record:
    """How often one search was better than another on the same task."""

    wins: int
    ties: int
    losses: int
    share: Estimate
    """Of wins among decided tasks."""


def mean_interval(values: Sequence[float] | Numbers) -> Estimate:
    """The mean over tasks; of paired differences, when given those.

    >>> mean_interval([0.5, 0.5, 0.5])
    Estimate(value=0.5, low=0.5, high=0.5)
    """
    array = numpy.asarray(values, dtype=float)
    return bootstrap(len(array), lambda rows: array[rows].mean(axis=-1))


def bootstrap(count: int, statistic: Callable[[NDArray[numpy.intp]], Numbers]) -> Estimate:
    """`statistic` of all tasks, and its spread when tasks are drawn again with replacement.

    `statistic` takes rows of task numbers, and returns a number per row; NaN rows are left out.
    """
    if not count:
        return Estimate(float("nan"), float("nan"), float("nan"))
    rows = numpy.random.default_rng(SEED).integers(0, count, (ROUNDS, count))
    drawn = numpy.asarray(statistic(rows), dtype=float)
    drawn = drawn[~numpy.isnan(drawn)]
    value = float(numpy.asarray(statistic(numpy.arange(count)[None]))[0])
    if not len(drawn):
        return Estimate(value, float("nan"), float("nan"))
    # Do not interpolate, because values may be infinite.
    low, high = numpy.quantile(drawn, (0.025, 0.975), method="nearest")
    return Estimate(value, float(low), float(high))


def record(ours: Sequence[float], theirs: Sequence[float]) -> Record:
    """Wins, ties and losses over the same tasks.

    >>> record([1, 1, 0, 1], [0, 1, 1, 0]).wins
    2
    """
    margins = numpy.sign(_settled(numpy.asarray(ours, float) - numpy.asarray(theirs, float)))

    def share(rows: NDArray[numpy.intp]) -> Numbers:
        drawn = margins[rows]
        decided = (drawn != 0).sum(axis=-1)
        with numpy.errstate(invalid="ignore", divide="ignore"):
            return numpy.asarray((drawn > 0).sum(axis=-1) / decided, dtype=float)

    return Record(
        wins=int((margins > 0).sum()),
        ties=int((margins == 0).sum()),
        losses=int((margins < 0).sum()),
        share=bootstrap(len(margins), share),
    )


def nfe_to_reach(
    costs: Sequence[Sequence[float]], quality: Sequence[Sequence[float]], goal: Sequence[float]
) -> Estimate:
    """The cost at which a family's curve first reaches the mean of `goal`: costs and quality are
    [point][task], goal is [task]. Between two points that both count, the curve is a line;
    infinite where it never gets there.

    >>> nfe_to_reach([[1, 1], [4, 4]], [[0.0, 0.0], [1.0, 1.0]], [0.5, 0.5]).value
    2.5
    """
    cost, good, aim = (numpy.asarray(each, dtype=float) for each in (costs, quality, goal))

    def reached(rows: NDArray[numpy.intp]) -> Numbers:
        answers = [
            _crossing(cost[:, row].mean(axis=1), good[:, row].mean(axis=1), float(aim[row].mean()))
            for row in rows
        ]
        return numpy.array(answers)

    return bootstrap(aim.shape[0], reached)


def _crossing(cost: Numbers, good: Numbers, aim: float) -> float:
    points: list[tuple[float, float]] = []
    for index in numpy.argsort(cost, kind="stable"):
        here = (float(cost[index]), float(good[index]))
        if points and here[1] <= points[-1][1]:
            continue  # more expensive but not better: not part of the curve
        if here[1] >= aim:
            if not points or here[1] == aim:
                return here[0]
            before = points[-1]
            share = (aim - before[1]) / (here[1] - before[1])
            return before[0] + share * (here[0] - before[0])
        points.append(here)
    return float("inf")


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; NaN where one of them is constant.

    >>> rank_correlation([1, 2, 3], [10, 30, 20])
    0.5
    """
    return correlation(_ranks(one), _ranks(other))


def correlation(one: Sequence[float] | Numbers, other: Sequence[float] | Numbers) -> float:
    """Pearson's; NaN where one of them is constant."""
    first, second = numpy.asarray(one, float), numpy.asarray(other, float)
    if len(first) < 2 or numpy.ptp(first) == 0 or numpy.ptp(second) == 0:
        return float("nan")
    return round(float(numpy.corrcoef(first, second)[0, 1]), 12)


def auc(scores: Sequence[float], success: Sequence[bool]) -> float:
    """How often a success scores above a failure; a tie counts half. NaN without both kinds.

    >>> auc([0.1, 0.9, 0.5], [False, True, True])
    1.0
    """
    values, good = numpy.asarray(scores, float), numpy.asarray(success, bool)
    margins = values[good][:, None] - values[~good][None]
    return float((0.5 * (1 + numpy.sign(margins))).mean()) if margins.size else float("nan")


def finite_mean(values: Sequence[float]) -> Estimate:
    """The mean over the tasks with a finite value."""
    array = numpy.asarray(values, float)
    return mean_interval(array[~numpy.isnan(array)])


def _ranks(values: Sequence[float]) -> Numbers:
    _, places, counts = numpy.unique(
        numpy.asarray(values, float), return_inverse=True, return_counts=True
    )
    middle = numpy.cumsum(counts) - (counts - 1) / 2
    return numpy.asarray(middle[places], dtype=float)


def _settled(margins: Numbers) -> Numbers:
    return numpy.where(numpy.abs(margins) < EVEN, 0.0, margins)
