"""Numbers that settle which search is better."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.search.statistics import (
    auc,
    correlation,
    finite_mean,
    mean_interval,
    nfe_to_reach,
    rank_correlation,
    record,
)


def test_an_interval_holds_the_mean_and_is_the_same_every_time() -> None:
    draws = np.random.default_rng(1).normal(0.3, 1.0, 200)
    once, again = mean_interval(draws), mean_interval(draws)
    assert once == again
    assert once.low < draws.mean() < once.high
    # the normal approximation, which 200 draws follow closely
    assert (once.high - once.low) / 2 == pytest.approx(1.96 * draws.std() / 200**0.5, rel=0.1)


def test_a_real_lead_is_told_from_luck() -> None:
    generator = np.random.default_rng(2)
    base = generator.random(300) < 0.5
    better = base | (generator.random(300) < 0.3)
    lead = mean_interval(better.astype(float) - base)
    assert lead.low > 0
    luck = mean_interval((generator.random(300) < 0.5).astype(float) - base)
    assert luck.low < 0 < luck.high


def test_ties_decide_nothing() -> None:
    seen = record([1, 1, 0, 0.5, 1], [0, 0, 1, 0.5, 1])
    assert (seen.wins, seen.ties, seen.losses) == (2, 2, 1)
    assert seen.share.value == pytest.approx(2 / 3)


def test_no_decided_task_has_no_share() -> None:
    assert math.isnan(record([1, 0], [1, 0]).share.value)


def test_the_cost_of_a_quality_is_read_off_the_line_between_two_points() -> None:
    costs = [[1.0] * 4, [2.0] * 4, [8.0] * 4]
    quality = [[0, 0, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    assert nfe_to_reach(costs, quality, [0, 1, 1, 1]).value == pytest.approx(5.0)


def test_a_dearer_point_that_is_no_better_is_passed_over() -> None:
    costs = [[1.0] * 2, [2.0] * 2, [3.0] * 2]
    quality = [[0.0, 0.5], [0.0, 0.0], [1.0, 1.0]]
    assert nfe_to_reach(costs, quality, [0.5, 0.75]).value == pytest.approx(2.0)


def test_a_quality_that_is_never_reached_costs_without_end() -> None:
    reached = nfe_to_reach([[1.0, 1.0]], [[0.0, 0.0]], [1.0, 1.0])
    assert (reached.value, reached.high) == (math.inf, math.inf)


def test_a_first_point_that_is_good_enough_is_the_answer() -> None:
    assert nfe_to_reach([[2.0, 4.0]], [[1.0, 1.0]], [1.0, 0.0]).value == pytest.approx(3.0)


def test_equal_values_share_their_rank() -> None:
    assert rank_correlation([1, 1, 2, 3], [1, 1, 2, 3]) == 1.0
    assert rank_correlation([1, 1, 2], [3, 3, 1]) == -1.0
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_correlations_and_auc_of_what_is_known() -> None:
    assert correlation([0, 1, 2], [5, 3, 1]) == -1.0
    assert auc([0.2, 0.2, 0.8], [False, True, True]) == pytest.approx(0.75)
    assert math.isnan(auc([0.1, 0.2], [True, True]))


def test_tasks_that_say_nothing_are_left_out_of_a_mean() -> None:
    assert finite_mean([0.25, math.nan, 0.75]).value == 0.5
    assert math.isnan(finite_mean([math.nan]).value)
