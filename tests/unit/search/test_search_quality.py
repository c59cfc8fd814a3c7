"""What searches find and what they spend, on synthetic tasks with a known truth."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from eacps.domain import Noise, SearchPlan
from eacps.search import cost
from tests.unit.search.landscape import Landscape, over_tasks

TASKS = [Landscape(seed) for seed in range(160)]
"""Previews predict the result: their correlation is 0.68 at step 3 of 12, and 0.97 at step 7."""
BLIND = [Landscape(seed, preview_power=0.0) for seed in range(160)]
"""Previews say nothing about the result."""


def mixed(count: int) -> list[Landscape]:
    """Tasks with nearly equal attempts, and tasks whose attempts differ up to 40 times as much."""
    chance = random.Random(5)
    spreads = [math.exp(chance.uniform(math.log(0.05), math.log(2.0))) for _ in range(count)]
    return [Landscape(seed, spread=spread) for seed, spread in enumerate(spreads)]


@cache
def best_of(n: int) -> float:
    """The baseline's quality."""
    return played("best_of_n", n=n)[0]


def played(strategy: str, tasks: Sequence[Landscape] = TASKS, **params: Any) -> tuple[float, float]:
    """Mean quality of the winners, and mean cost in full renders."""
    return over_tasks(SearchPlan(strategy, params), tasks)


@pytest.mark.parametrize("angle", [0.25, 0.7, 1.4])
def test_a_childs_quality_correlates_with_its_parents_by_the_cosine(angle: float) -> None:
    pairs = []
    for task in (Landscape(seed) for seed in range(1500)):
        parent = Noise(1)
        pairs.append((task.truth(parent), task.truth(parent.moved(angle, 2))))
    correlation = sum(a * b for a, b in pairs) / math.sqrt(
        sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs)
    )
    assert correlation == pytest.approx(math.cos(angle), abs=0.05)


def test_halving_with_informative_previews_nears_best_of_8_at_little_more_than_half_its_cost() -> (
    None
):
    baseline = best_of(8)
    quality, spent = played("halving")
    assert spent == pytest.approx(cost(SearchPlan("halving"))) == 4.5
    assert quality > 0.95 * baseline
    assert quality > best_of(5) + 0.1


def test_halving_spends_saved_steps_on_more_candidates_and_beats_best_of_8() -> None:
    baseline = best_of(8)
    quality, spent = played("halving", n=16, rungs=[[0.25, 5], [0.5, 2]])
    assert spent < 6.3
    assert quality > baseline + 0.1


def test_pruning_by_random_previews_is_no_better_than_the_few_finished_candidates() -> None:
    quality, _ = played("halving", BLIND)
    assert quality == pytest.approx(played("best_of_n", BLIND, n=2)[0], abs=0.12)


def test_ade_cot_nears_best_of_8_for_less_than_its_maximum_cost() -> None:
    baseline = best_of(8)
    quality, spent = played("ade_cot")
    assert spent < cost(SearchPlan("ade_cot")) < 5
    assert quality > 0.9 * baseline


@pytest.mark.parametrize(
    "part",
    [
        {"prune": True, "difficulty": False, "stop": False},
        {"prune": False, "difficulty": True, "stop": False},
        {"prune": False, "difficulty": False, "stop": True},
    ],
    ids=lambda part: next(name for name in part if part[name]),
)
def test_each_part_of_ade_cot_saves_by_itself(part: dict[str, Any]) -> None:
    baseline = best_of(8)
    quality, spent = played("ade_cot", **part)
    assert spent < 7.0
    assert quality > 0.9 * baseline


def test_adaptive_eacps_finds_more_for_the_same_cost_where_tasks_differ() -> None:
    tasks = mixed(160)
    quality, spent = played("eacps", tasks, k=16, adaptive=True, least_gain=0.02)
    assert spent < 12
    assert quality > played("eacps", tasks, k=8)[0] + 0.03
    assert quality > played("best_of_n", tasks, n=12)[0] + 0.03


def test_eacps_with_rungs_beats_best_of_8_at_its_cost() -> None:
    rungs: dict[str, Any] = {"rungs": [[0.3, 4], [0.6, 2]], "local_rungs": [[0.5, 2]]}
    quality, spent = played("eacps", k=8, **rungs)
    assert spent == pytest.approx(7.5)
    assert quality > best_of(8) + 0.1
