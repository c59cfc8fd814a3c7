"""How well previews predict results, and how similar children are to their parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy

from benchmarks.search.bank import END, Bank, Wanted, key_of
from benchmarks.search.judges import Judge
from benchmarks.search.problems import Problem
from benchmarks.search.statistics import auc, rank_correlation
from eacps.domain import Noise
from eacps.search.seeds import derived_seed

CANDIDATES: Final = 8
PARENTS: Final = 4
ANGLES: Final = (0.1, 0.2, 0.4, 0.8, 1.2)
SEED_OFFSET: Final = "seed + 1"
STRANGERS: Final = "unrelated noise"
_CHILDREN_FROM: Final = 1_000_000


def candidate_looks(problem: Problem) -> list[Wanted]:
    """The results of the first candidates, which include their previews."""
    return [Wanted(key_of(noise), END) for noise in first_noises(problem, CANDIDATES)]


def first_noises(problem: Problem, count: int) -> list[Noise]:
    """The first noises of every search of this task."""
    return [Noise(derived_seed(problem.seed, index)) for index in range(count)]


def children(problem: Problem) -> dict[str, list[tuple[Noise, Noise]]]:
    """Pairs of parents and children by kind of move, for all parents and not only good ones."""
    noises = first_noises(problem, 2 * PARENTS)
    parents = noises[:PARENTS]
    pairs: dict[str, list[tuple[Noise, Noise]]] = {}
    for row, angle in enumerate(ANGLES):
        start = _CHILDREN_FROM + row * PARENTS
        pairs[angle_name(angle)] = [
            (parent, parent.moved(angle, derived_seed(problem.seed, start + number)))
            for number, parent in enumerate(parents)
        ]
    pairs[SEED_OFFSET] = [(parent, Noise(parent.seed + 1)) for parent in parents]
    pairs[STRANGERS] = list(zip(parents, noises[PARENTS:], strict=True))
    return pairs


def angle_name(angle: float) -> str:
    """The name of a move by this angle."""
    return f"angle {angle:g}"


def child_looks(problem: Problem) -> list[Wanted]:
    """The looks that are needed to compare children with their parents."""
    noises = [noise for pairs in children(problem).values() for pair in pairs for noise in pair]
    return [Wanted(key_of(noise), END) for noise in noises]


def previews(
    problem: Problem, bank: Bank, judges: Mapping[str, Judge], steps: Sequence[int]
) -> Any:
    """By judge and step (END: the result): the rank correlation of the judge's potential with its
    final potential and with the final truth, and the AUC for final success."""
    keys = [look.key for look in candidate_looks(problem)]
    finals = [_seen(bank, Wanted(key, END)) for key in keys]
    truth = [view["success"] + view["score"] for view in finals]
    success = [view["success"] > 0 for view in finals]
    told: dict[str, dict[str, list[float]]] = {}
    for name, judge in judges.items():
        at_end = _potentials(problem, bank, judge, keys, END)
        told[name] = {}
        for step in (*steps, END):
            here = _potentials(problem, bank, judge, keys, step)
            told[name][str(step)] = [
                rank_correlation(here, at_end),
                rank_correlation(here, truth),
                auc(here, success),
            ]
    return told


def kinship(problem: Problem, bank: Bank, judges: Mapping[str, Judge]) -> Any:
    """By kind of move and judge: the scores of parent and child minus the mean of the task's
    candidates, and the CLIP similarity of both pictures."""
    keys = [look.key for look in candidate_looks(problem)]
    told: dict[str, dict[str, list[list[float]]]] = {}
    for kind, pairs in children(problem).items():
        told[kind] = {"likeness": []}
        looks = [[Wanted(key_of(noise), END) for noise in pair] for pair in pairs]
        for one, other in looks:
            cosine = float(bank.features(one) @ bank.features(other))
            told[kind]["likeness"].append([round(cosine, 4)])
        for name, judge in judges.items():
            mean = float(numpy.mean(_potentials(problem, bank, judge, keys, END)))
            told[kind][name] = [
                [round(_potential(problem, bank, judge, look) - mean, 4) for look in pair]
                for pair in looks
            ]
    return told


def _potentials(
    problem: Problem, bank: Bank, judge: Judge, keys: Sequence[str], step: int
) -> list[float]:
    return [_potential(problem, bank, judge, Wanted(key, step)) for key in keys]


def _potential(problem: Problem, bank: Bank, judge: Judge, look: Wanted) -> float:
    return judge(problem.name, look, _seen(bank, look))[0]


def _seen(bank: Bank, look: Wanted) -> Mapping[str, float]:
    view = bank.view(look)
    assert view is not None, f"missing: {look}"
    return view
