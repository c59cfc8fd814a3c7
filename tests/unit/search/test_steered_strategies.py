"""What the review panel plans: fresh noises, children of picks, and the rest of previews."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eacps.domain import EditTask, Failure, Noise, Outcome, SearchPlan, Trial, from_json, to_json
from eacps.errors import SettingsError
from eacps.search import budget, cost, create, names, ranked
from eacps.search.seeds import Seeds
from eacps.search.strategies.auto import CANNOT_PAUSE
from eacps.testing.strategies import by_noise, failing, play

PARENT = Noise(11).moved(0.4, 12)


def picks(*noises: Noise, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"c{index}-3f2a9c", "noise": to_json(noise), **more}
        for index, noise in enumerate(noises, start=1)
    ]


def seeds(trials: Iterable[Trial]) -> list[int]:
    return [(each.noise.moves[-1].seed if each.noise.moves else each.noise.seed) for each in trials]


@settings(max_examples=50, deadline=None)
@given(
    root=st.integers(-(2**63), 2**63 - 1),
    earlier=st.lists(st.integers(1, 20), max_size=5),
    count=st.integers(1, 64),
)
def test_more_never_draws_a_noise_that_was_drawn_before(
    root: int, earlier: list[int], count: int
) -> None:
    used: list[int] = []
    for number in [*earlier, count]:
        # Even from the same root each time, which no two requests have.
        plan = SearchPlan("more", {"n": number, "used": used}, root)
        drawn = seeds(create(plan).ask())
        assert len(set(drawn)) == number == budget(plan) == cost(plan)
        assert not set(drawn) & set(used)
        used += drawn


def test_children_are_moved_from_the_recipes_of_picks_and_name_their_cards() -> None:
    params = {"picks": picks(PARENT, Noise(7)), "per_pick": 2, "angle": 0.2}
    trials = create(SearchPlan("children", params, seed=3)).ask()
    assert [trial.parent for trial in trials] == 2 * ["c1-3f2a9c"] + 2 * ["c2-3f2a9c"]
    assert {(trial.stage, trial.round) for trial in trials} == {("local", 1)}
    for trial in trials[:2]:
        assert trial.noise.seed == PARENT.seed
        assert trial.noise.moves[:-1] == PARENT.moves
        assert trial.noise.moves[-1].angle == 0.2
    assert trials[0].lineage == "child of c1-3f2a9c at angle 0.2"
    again = SearchPlan("children", {**params, "used": seeds(trials)}, seed=3)
    assert not set(seeds(create(again).ask())) & set(seeds(trials))
    assert budget(again) == cost(again) == 4


def test_words_follow_those_that_a_pick_had() -> None:
    first = {"picks": picks(PARENT, suffix="Keep the hat."), "per_pick": 1, "suffix": "More red."}
    (trial,) = create(SearchPlan("children", first)).ask()
    assert trial.instruction_suffix == "Keep the hat. More red."
    (plain,) = create(SearchPlan("more", {"n": 1, "suffix": "More red."})).ask()
    assert plain.instruction_suffix == "More red."


def test_a_preview_is_asked_for_where_it_stopped_and_then_to_the_end() -> None:
    params = {"picks": [*picks(PARENT, stopped_at=4), *picks(Noise(5))]}
    done = play(SearchPlan("finish", params, steps=12), by_noise)
    assert [[(o.trial.id, o.trial.to_step) for o in each] for each in done.rounds] == [
        [("c1", 4), ("c2", None)],
        [("c1", None)],
    ]
    assert {o.trial.noise for o in done.outcomes} == {PARENT, Noise(5)}
    assert done.cost == 2


@pytest.mark.parametrize("stopped_at", [None, 0, -1, 12, 13, 10**9])
def test_a_preview_from_other_steps_begins_with_its_noise(stopped_at: int | None) -> None:
    plan = SearchPlan("finish", {"picks": picks(PARENT, stopped_at=stopped_at)}, steps=12)
    assert [trial.to_step for trial in create(plan).ask()] == [None]


def test_a_preview_that_fails_is_not_continued_unless_the_editor_cannot_pause() -> None:
    plan = SearchPlan("finish", {"picks": picks(PARENT, Noise(5), stopped_at=4)}, steps=12)
    search = create(plan)
    one, two = search.ask()
    cannot = Failure(CANNOT_PAUSE, "This editor cannot pause.")
    search.tell([Outcome(one, failure=cannot), Outcome(two, math.nan)])
    (again,) = search.ask()
    assert (again.id, again.noise, again.to_step, again.parent) == ("c3", PARENT, None, one.parent)


@pytest.mark.parametrize("luck", range(5))
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("more", {"n": 6}),
        ("children", {"picks": picks(PARENT, Noise(5)), "per_pick": 3}),
        ("finish", {"picks": picks(PARENT, Noise(5), Noise(6), stopped_at=4)}),
    ],
)
def test_they_end_whatever_fails(name: str, params: dict[str, Any], luck: int) -> None:
    plan = SearchPlan(name, params, seed=luck)
    done = play(plan, failing(luck, 0.5))
    assert done.plan == plan
    assert repr(play(plan, failing(luck, 0.5)).rounds) == repr(done.rounds)
    alive = ranked(o for o in done.outcomes if o.trial.to_step is not None)
    finished = {o.trial.id for o in done.outcomes if o.trial.to_step is None}
    assert {o.trial.id for o in alive} <= finished


def test_a_stored_plan_is_the_same_plan() -> None:
    params = {"picks": picks(PARENT, stopped_at=4, suffix="x"), "per_pick": 2, "used": [1, 2, 3]}
    task = EditTask("image.png", "add a hat", plan=SearchPlan("children", params, seed=5))
    again = from_json(EditTask, to_json(task))
    assert again.key == task.key
    assert create(again.plan).ask() == create(task.plan).ask()


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("more", {}, "n"),
        ("more", {"n": 65}, "less than or equal to 64"),
        ("children", {"picks": []}, "at least 1 item"),
        ("children", {"picks": [{"id": "c1", "noise": {}}]}, "seed"),
        ("finish", {"picks": 65 * picks(PARENT)}, "at most 64 items"),
        ("finish", {"picks": picks(PARENT), "angle": 0.1}, "no parameter"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        create(SearchPlan(name, params))


def test_no_backend_is_set_to_them() -> None:
    assert not {"more", "children", "finish"} & set(names())


def test_used_seeds_are_skipped_by_both_kinds_of_draws() -> None:
    plain = Seeds(3)
    first, second = plain.fresh(), plain.fresh()
    assert Seeds(3, used=[first]).fresh() == second
    assert Seeds(3, used=[8, 9]).after(7) == 10
