"""A tournament of pairs: who meets whom within a budget, and how strong each then is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

Pair = tuple[int, int]
ROUNDS: Final = 500
PRECISION: Final = 1e-9
PRIOR: Final = 0.1
"""So much of a drawn game counts for every pair: no number of wins makes infinitely strong."""


@dataclass(frozen=True)
class Standing:
    """The outcome of a tournament: strengths (higher is better, their mean is 0), which pairs met,
    and what kept others from meeting."""

    strengths: tuple[float, ...]
    met: Mapping[Pair, float]
    problems: tuple[str, ...] = ()

    @property
    def order(self) -> list[int]:
        """Places in the order of strength, the strongest first; equal ones as they came."""
        return sorted(range(len(self.strengths)), key=lambda place: -self.strengths[place])


def tournament(
    count: int, meet: Callable[[Sequence[Pair]], Sequence[float | str]], *, most: int
) -> Standing:
    """Hold a tournament of at most `most` pairs.

    `meet` gets pairs that can meet at the same time, and returns for each 1 if the first is better,
    0 if the second is, something between if unsure, or a text if it cannot tell. Everybody meets
    neighbours in the present order first, so that near-ties are decided before clear cases.
    """
    met: dict[Pair, float] = {}
    problems: list[str] = []
    left = set(combinations(range(count), 2))
    strengths = tuple([0.0] * count)
    while left and len(met) + len(problems) < most:
        pairs = _next(left, strengths)[: most - len(met) - len(problems)]
        left -= set(pairs)
        for pair, share in zip(pairs, meet(pairs), strict=True):
            if isinstance(share, str):
                problems.append(share)
            else:
                met[pair] = min(1.0, max(0.0, share))
        strengths = bradley_terry(count, met)
    return Standing(strengths, met, tuple(problems))


def bradley_terry(count: int, met: Mapping[Pair, float]) -> tuple[float, ...]:
    """The strengths under which these outcomes are likeliest (logarithms, with mean 0).

    >>> first, second, third = bradley_terry(3, {(0, 1): 1.0, (1, 2): 1.0})
    >>> first > second > third
    True
    """
    wins = [0.0] * count
    games: list[dict[int, float]] = [{} for _ in range(count)]
    for first, second in combinations(range(count), 2):
        share = met.get((first, second))
        played = PRIOR + (1.0 if share is not None else 0.0)
        wins[first] += PRIOR / 2 + (share or 0.0)
        wins[second] += PRIOR / 2 + (0.0 if share is None else 1 - share)
        games[first][second] = games[second][first] = played
    power = [1.0] * count
    for _ in range(ROUNDS):
        new = [
            wins[one] / sum(n / (power[one] + power[other]) for other, n in games[one].items())
            if games[one]
            else 1.0
            for one in range(count)
        ]
        mean = math.exp(sum(map(math.log, new)) / max(1, count))
        new = [each / mean for each in new]
        change = max((abs(a - b) for a, b in zip(new, power, strict=True)), default=0.0)
        power = new
        if change < PRECISION:
            break
    return tuple(math.log(each) for each in power)


def _next(left: set[Pair], strengths: Sequence[float]) -> list[Pair]:
    """Pairs for the next round, nobody in two of them: those nearest to each other first."""
    order = sorted(range(len(strengths)), key=lambda place: -strengths[place])
    rank = {place: index for index, place in enumerate(order)}
    near = sorted(left, key=lambda pair: (abs(rank[pair[0]] - rank[pair[1]]), *sorted(pair)))
    busy: set[int] = set()
    chosen = []
    for pair in near:
        if busy.isdisjoint(pair):
            busy |= set(pair)
            chosen.append(pair)
    return chosen
