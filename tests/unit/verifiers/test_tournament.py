"""Tournaments of pairs: who meets whom, and what strengths come of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eacps.verifiers.tournament import Pair, bradley_terry, tournament


def honest(worth: Sequence[float], asked: list[Pair]):  # type: ignore[no-untyped-def]
    """Pairs by their true worth; keeps which pairs met."""

    def meet(pairs: Sequence[Pair]) -> list[float]:
        asked.extend(pairs)
        return [1.0 if worth[one] > worth[other] else 0.0 for one, other in pairs]

    return meet


@given(st.permutations(range(7)))
def test_all_pairs_give_the_true_order(worth: list[int]) -> None:
    asked: list[Pair] = []
    standing = tournament(7, honest(worth, asked), most=100)
    assert len(asked) == len(set(asked)) == 21
    assert [worth[place] for place in standing.order] == sorted(worth, reverse=True)


@pytest.mark.parametrize("most", [0, 1, 5, 12, 21])
def test_no_more_pairs_than_the_budget(most: int) -> None:
    asked: list[Pair] = []
    tournament(7, honest(range(7), asked), most=most)
    assert len(asked) == most


def test_a_small_budget_is_spent_on_neighbours_and_finds_the_best_more_often_than_chance() -> None:
    chance = Random(3)
    found = 0
    for _ in range(100):
        worth = [chance.random() for _ in range(8)]
        standing = tournament(8, honest(worth, []), most=12)
        found += standing.order[0] == worth.index(max(worth))
    assert found > 60


def test_strengths_are_the_likeliest() -> None:
    # Three wins of four against each other: odds of three to one, without the prior.
    met = {(0, 1): 0.75}
    first, second = bradley_terry(2, met)
    share = (0.75 + 0.05) / 1.1
    assert first - second == pytest.approx(math.log(share / (1 - share)))
    assert first + second == pytest.approx(0)


def test_a_pair_that_cannot_be_compared_is_left_out_and_named() -> None:
    def meet(pairs: Sequence[Pair]) -> list[float | str]:
        return ["it declined" if 0 in pair else float(pair[0] > pair[1]) for pair in pairs]

    standing = tournament(4, meet, most=10)
    assert standing.problems == ("it declined",) * 3
    assert standing.strengths[3] > standing.strengths[2] > standing.strengths[1]
    assert standing.strengths[0] == pytest.approx(sum(standing.strengths[1:]) / 3, abs=0.2)


def test_circles_and_nobody_are_no_problem() -> None:
    circle = bradley_terry(3, {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.0})
    assert circle == pytest.approx((0, 0, 0))
    assert bradley_terry(0, {}) == ()
    assert tournament(1, lambda _: [], most=5).strengths == (0.0,)
