"""Elites and previews that nearly tie are chosen in pairs, if a strategy is asked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from eacps.domain import Outcome, SearchPlan, Trial
from eacps.search import AskTellError, create
from eacps.search.comparing import PREFERENCE, is_comparison
from eacps.search.roundwise import RoundwiseStrategy

Compare = Callable[[Trial], float | None]


def begun(name: str, near: float = 0.1, **params: Any) -> RoundwiseStrategy[Any]:
    strategy = create(SearchPlan(name, params, seed=7, steps=10))
    assert isinstance(strategy, RoundwiseStrategy)
    strategy.near = near
    return strategy


def played(
    strategy: RoundwiseStrategy[Any], potentials: Mapping[str, float], strength: Compare
) -> list[list[Trial]]:
    """The rounds of a search in which trials have these potentials, or else 0."""
    rounds = []
    while asked := list(strategy.ask()):
        rounds.append(asked)
        strategy.tell([_ended(trial, potentials, strength) for trial in asked])
    return rounds


def _ended(trial: Trial, potentials: Mapping[str, float], strength: Compare) -> Outcome:
    if not is_comparison([trial]):
        return Outcome(trial, potentials.get(trial.id, 0.0))
    found = strength(trial)
    return Outcome(trial, None, {} if found is None else {PREFERENCE: found})


def later_is_better(trial: Trial) -> float:
    return float(trial.id[1:])


def ids(trials: Sequence[Trial]) -> list[str]:
    return [trial.id for trial in trials]


POTENTIALS = {"c1": 0.9, "c2": 0.52, "c3": 0.5, "c4": 0.45, "c5": 0.1}


def test_elites_that_nearly_tie_at_the_cut_off_meet_and_the_strongest_have_children() -> None:
    search = begun("eacps", k=5, m=2, k_local=1, pairwise_elites=4)
    first, compared, children = played(search, POTENTIALS, later_is_better)
    assert len(first) == 5
    # c1 is far ahead, and c5 far behind.
    assert ids(compared) == ["c2", "c3", "c4"]
    assert [child.parent for child in children] == ["c1", "c4"]
    assert search.notes == (
        "c2, c3, c4 nearly tied for the best 2, and were compared in pairs: c4 went on.",
    )


def test_a_later_round_may_compare_an_elite_once_more() -> None:
    search = begun("eacps", near=9, k=3, m=1, k_local=2, rounds=3, pairwise_elites=3)
    rounds = played(search, POTENTIALS, lambda trial: -later_is_better(trial))
    compared = [ids(each) for each in rounds if is_comparison(each)]
    assert compared == [["c1", "c2", "c3"], ["c1", "c4", "c5"], ["c1", "c6", "c7"]]
    assert {child.parent for child in rounds[-1]} == {"c1"}


@pytest.mark.parametrize(
    ("near", "params"),
    [(0.1, {"pairwise_elites": 0}), (0.1, {"pairwise_elites": 1}), (0.01, {"pairwise_elites": 4})],
)
def test_without_near_ties_or_unless_asked_for_nothing_is_compared(
    near: float, params: dict[str, int]
) -> None:
    search = begun("eacps", near, k=5, m=2, k_local=1, **params)
    first, children = played(search, POTENTIALS, later_is_better)
    assert not is_comparison(first)
    assert [child.parent for child in children] == ["c1", "c2"]


def test_without_a_judge_that_compares_the_order_stays_and_notes_say_so() -> None:
    search = begun("eacps", k=5, m=2, k_local=1, pairwise_elites=4)
    *_, children = played(
        search, POTENTIALS, lambda trial: None if trial.id == "c3" else later_is_better(trial)
    )
    assert [child.parent for child in children] == ["c1", "c2"]
    assert search.notes == (
        "c2, c3, c4 nearly tie for the best 2; no judge compared them in pairs.",
    )


def test_waves_compare_previews_that_nearly_tie_for_going_on() -> None:
    search = begun("waves", n=4, waves=1, rungs=[[0.5, 1]], pairwise_elites=3)
    previews, compared, finished = played(search, POTENTIALS | {"c2": 0.88}, later_is_better)
    assert {trial.to_step for trial in previews} == {5}
    assert [(trial.id, trial.to_step) for trial in compared] == [("c1", 5), ("c2", 5)]
    assert [(trial.id, trial.to_step) for trial in finished] == [("c2", None)]


def test_a_comparison_is_told_once_and_only_if_it_was_asked_for() -> None:
    search = begun("eacps", k=5, m=2, k_local=1, pairwise_elites=4)
    search.tell([Outcome(trial, POTENTIALS[trial.id]) for trial in search.ask()])
    asked = search.ask()
    told = [Outcome(trial, None, {PREFERENCE: 1.0}) for trial in asked]
    with pytest.raises(AskTellError, match="already has an outcome"):
        search.tell([told[0], told[0]])
    search.tell(told)
    with pytest.raises(AskTellError):
        search.tell(told)
    assert not is_comparison(search.ask())
