"""What the searches stand on: how early previews tell the end, how children take after parents."""

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
    """The ends of the first candidates; their previews come with them."""
    return [Wanted(key_of(noise), END) for noise in first_noises(problem, CANDIDATES)]


def first_noises(problem: Problem, count: int) -> list[Noise]:
    """The noises that every search of this task draws first."""
    return [Noise(derived_seed(problem.seed, index)) for index in range(count)]


def children(problem: Problem) -> dict[str, list[tuple[Noise, Noise]]]:
    """Parents and children by how the children arise: whoever the parent is, not only elites."""
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
    """What a move by that angle is called."""
    return f"angle {angle:g}"


def child_looks(problem: Problem) -> list[Wanted]:
    """What has to be rendered to compare children with their parents."""
    noises = [noise for pairs in children(problem).values() for pair in pairs for noise in pair]
    return [Wanted(key_of(noise), END) for noise in noises]


def previews(
    problem: Problem, bank: Bank, judges: Mapping[str, Judge], steps: Sequence[int]
) -> Any:
    """By judge and step (END: the result itself): rank correlation of what the judge says there
    with what it says at the end, with the truth at the end, and the AUC for success at the end."""
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
    """By kind of child and judge: scores of parent and child less the mean of the task's
    candidates; and how alike the two pictures are to CLIP."""
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
    assert view is not None, f"nobody has looked at {look}"
    return view
