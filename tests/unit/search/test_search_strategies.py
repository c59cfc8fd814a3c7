"""What holds for every registered strategy, whatever fails and in whatever order it is told."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from eacps.domain import Failure, Outcome, SearchPlan, Trial
from eacps.errors import SettingsError
from eacps.search import AskTellError, best, budget, cost, create, describe, finished, names, ranked
from eacps.search.roundwise import RoundwiseStrategy, Search
from eacps.search.strategies.best_of_n import BestOfNParams
from tests.unit.search import landscape

EVERY_STRATEGY = pytest.mark.parametrize("name", names())
UNHURRIED = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FAILURE = Failure("editor_failed", "out of memory")
STOPS_EARLY = ("auto", "zero_order", "ade_cot", "refine", "waves")
SCORES = ("satisfied", "preserved", "intact", "region", "caption", "pf", "nearest_similarity")
Judge = Callable[[Trial], Outcome]
Rounds = list[list[Outcome]]


def play(plan: SearchPlan, judge: Judge) -> Rounds:
    """Runs a search to its end; the outcomes of each ask."""
    search = create(plan)
    rounds: Rounds = []
    while trials := search.ask():
        rounds.append([judge(trial) for trial in trials])
        search.tell(rounds[-1])
    assert search.ask() == []
    return rounds


def flat(rounds: Rounds) -> list[Outcome]:
    return [outcome for outcomes in rounds for outcome in outcomes]


def by_noise(trial: Trial) -> Outcome:
    """A rough landscape in which ties happen."""
    seeds = [trial.noise.seed, *(move.seed for move in trial.noise.moves)]
    return Outcome(trial, potential=float(sum(seeds) % 11), nfe=30)


def failing(seed: int, share: float) -> Judge:
    """Fails a random share of the trials, in every way in which a trial can fail, and gives the
    others some of the scores that strategies read."""

    def judge(trial: Trial) -> Outcome:
        chance = random.Random(f"{seed}{trial.id}{trial.to_step}")
        if chance.random() >= share:
            named = chance.sample(SCORES, chance.randint(0, len(SCORES)))
            scores = {name: chance.choice([0.0, 0.9, 1.0, math.nan]) for name in named}
            return replace(by_noise(trial), scores=scores)
        return chance.choice(
            [
                Outcome(trial, failure=FAILURE),
                Outcome(trial, potential=99.0, failure=FAILURE),
                Outcome(trial, potential=None),
                Outcome(trial, potential=math.nan),
                Outcome(trial, potential=math.inf),
            ]
        )

    return judge


def rung_lists() -> st.SearchStrategy[list[list[float]]]:
    """Rungs as people write them: shares rise, and what is kept falls."""

    def paired(drawn: tuple[set[float], list[int]]) -> list[list[float]]:
        shares, keeps = drawn
        return [
            [share, keep]
            for share, keep in zip(sorted(shares), sorted(keeps, reverse=True), strict=False)
        ]

    shares = st.sets(st.sampled_from([0.01, 0.2, 0.3, 0.5, 0.6, 0.9, 1.0]), max_size=4)
    return st.tuples(shares, st.lists(st.integers(1, 6), max_size=4)).map(paired)


def plans(name: str) -> st.SearchStrategy[SearchPlan]:
    """Small plans, drawn from the ranges that the strategy itself describes."""

    def values(parameter: Any) -> st.SearchStrategy[Any]:
        if parameter.choices:
            return st.sampled_from(parameter.choices)
        if parameter.kind == "boolean":
            return st.booleans()
        if parameter.kind == "array":
            return rung_lists()
        if parameter.kind == "object":
            return st.dictionaries(st.sampled_from(["potential", "pf"]), st.floats(-1, 9))
        if parameter.kind == "integer":
            return st.integers(parameter.minimum, min(parameter.maximum, parameter.minimum + 5))
        low = parameter.minimum if parameter.above is None else parameter.above
        high = parameter.maximum if parameter.below is None else parameter.below
        return st.floats(
            low,
            high,
            exclude_min=parameter.above is not None,
            exclude_max=parameter.below is not None,
            allow_nan=False,
            allow_infinity=False,
        )

    parameters = {each.name: values(each) for each in describe(name).parameters}
    return st.builds(
        SearchPlan,
        strategy=st.just(name),
        params=st.fixed_dictionaries({}, optional=parameters),
        seed=st.integers(-(2**63), 2**63 - 1),
        batch_size=st.sampled_from([1, 2, 4, 64]),
        steps=st.sampled_from([1, 2, 3, 12, 50]),
    ).filter(sensible)


def sensible(plan: SearchPlan) -> bool:
    try:
        return budget(plan) <= 200
    except SettingsError:
        return False


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data())
def test_a_search_without_failures_spends_what_it_says_or_says_why_it_spent_less(
    name: str, data: st.DataObject
) -> None:
    plan = data.draw(plans(name))
    done = landscape.run(plan, by_noise)
    assert done.candidates <= budget(plan)
    assert done.cost <= cost(plan) + 1e-9
    if name in STOPS_EARLY or plan.params.get("adaptive"):
        assert done.candidates == budget(plan) or done.notes
    else:
        assert done.candidates == budget(plan)
        assert done.cost == pytest.approx(cost(plan))


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), share=st.sampled_from([0.0, 0.3, 0.8, 1.0]), luck=st.integers(0, 99))
def test_any_trials_may_fail_and_the_search_still_ends_within_its_budget(
    name: str, data: st.DataObject, share: float, luck: int
) -> None:
    plan = data.draw(plans(name))
    done = landscape.run(plan, failing(luck, share))
    outcomes = done.outcomes
    assert 0 < done.candidates <= budget(plan)
    assert done.cost <= done.candidates, "no trial is paid for twice"
    usable = [o for o in outcomes if o.usable and math.isfinite(o.potential or 0.0)]
    assert set(map(id, ranked(outcomes))) == set(map(id, usable))


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_the_best_candidate_ever_seen_wins(name: str, data: st.DataObject, luck: int) -> None:
    outcomes = finished(flat(play(data.draw(plans(name)), failing(luck, 0.2))))
    usable = [o for o in outcomes if o.failure is None and math.isfinite(o.potential or math.nan)]
    assume(usable)
    # The earlier trial among equals, which a strategy may well finish last.
    first = max(usable, key=lambda each: (each.potential or 0.0, -int(each.trial.id[1:])))
    assert best(outcomes) is first
    assert ranked(outcomes)[0] is first
    assert ranked(reversed(outcomes)) == ranked(outcomes)


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_the_same_seed_repeats_the_search_and_another_does_not(
    name: str, data: st.DataObject, luck: int
) -> None:
    plan = data.draw(plans(name))
    judge = failing(luck, 0.2)
    assert repr(play(plan, judge)) == repr(play(plan, judge))
    other = SearchPlan(plan.strategy, plan.params, plan.seed ^ 1)
    assert create(other).ask()[0].noise != create(plan).ask()[0].noise


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_no_trial_and_no_noise_is_asked_twice(name: str, data: st.DataObject, luck: int) -> None:
    asked = [o.trial for o in flat(play(data.draw(plans(name)), failing(luck, 0.2)))]
    assert len({(trial.id, trial.to_step) for trial in asked}) == len(asked)
    trials = list({trial.id: trial for trial in asked}.values())
    assert [trial.id for trial in trials] == [f"c{i + 1}" for i in range(len(trials))]
    assert len({trial.noise for trial in trials}) == len(trials)
    latest = [
        trial.noise.moves[-1].seed if trial.noise.moves else trial.noise.seed for trial in trials
    ]
    assert len(set(latest)) == len(trials)
    assert all(0 <= seed < 2**63 for seed in latest)


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_a_paused_trial_goes_on_unchanged_to_later_steps_and_never_after_it_failed(
    name: str, data: st.DataObject, luck: int
) -> None:
    plan = data.draw(plans(name))
    before: dict[str, Outcome] = {}
    for outcomes in play(plan, failing(luck, 0.3)):
        assert len({outcome.trial.id for outcome in outcomes}) == len(outcomes)
        for trial in (outcome.trial for outcome in outcomes):
            assert trial.to_step is None or 1 <= trial.to_step < plan.steps
            if trial.id in before:
                earlier = before[trial.id]
                assert ranked([earlier])
                assert earlier.trial.to_step is not None
                assert earlier.trial.to_step < (trial.to_step or plan.steps)
                assert replace(earlier.trial, to_step=trial.to_step) == trial
        before |= {outcome.trial.id: outcome for outcome in outcomes}


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_a_search_ends_without_a_result_only_if_everything_that_it_tried_failed(
    name: str, data: st.DataObject, luck: int
) -> None:
    outcomes = flat(play(data.draw(plans(name)), failing(luck, 0.5)))
    last = {outcome.trial.id: outcome for outcome in outcomes}
    assert best(outcomes) or not ranked(last.values())


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_lineage_is_true(name: str, data: st.DataObject, luck: int) -> None:
    told: dict[str, Outcome] = {}
    for outcomes in play(data.draw(plans(name)), failing(luck, 0.3)):
        together = {outcome.trial.id: outcome.trial for outcome in outcomes}
        for trial in together.values():
            if trial.parent is None:
                assert (trial.stage, trial.noise.moves) == ("global", ())
                continue
            if trial.parent in told:
                assert ranked([told[trial.parent]]), "a failed candidate has no children"
                assert told[trial.parent].trial.to_step is None, "nor has a paused one"
                parent = told[trial.parent].trial
            else:
                parent = together[trial.parent]
            assert trial.stage == "local"
            assert trial.round > parent.round or parent.id in together
            move = trial.noise.moves[-1:]
            if move:
                assert trial.noise == parent.noise.moved(move[0].angle, move[0].seed)
            else:
                assert trial.noise.seed > parent.noise.seed
        told |= {outcome.trial.id: outcome for outcome in outcomes}


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 10**6))
def test_order_portions_and_wrong_calls_do_not_change_a_search(
    name: str, data: st.DataObject, luck: int
) -> None:
    plan = data.draw(plans(name))
    judge = failing(luck, 0.2)
    chance = random.Random(luck)
    search = create(plan)
    trials: list[Trial] = []
    while batch := search.ask():
        trials += batch
        waiting = [judge(trial) for trial in batch]
        chance.shuffle(waiting)
        while waiting:
            wrong_calls_are_refused(search, trials, waiting, judge, chance)
            size = chance.randint(0, len(waiting))
            search.tell(waiting[:size])
            waiting = waiting[size:]
    assert trials == [outcome.trial for outcome in flat(play(plan, judge))]


def wrong_calls_are_refused(
    search: Any, trials: Sequence[Trial], waiting: list[Outcome], judge: Judge, chance: Any
) -> None:
    with pytest.raises(AskTellError, match="no outcome yet"):
        search.ask()
    with pytest.raises(AskTellError, match="never asked"):
        search.tell([*waiting, Outcome(Trial("c0", trials[0].noise))])
    with pytest.raises(ValueError, match="told before"):
        search.tell([*waiting, chance.choice(waiting)])
    forged = replace(waiting[0].trial, noise=waiting[0].trial.noise.moved(0.1, 1))
    with pytest.raises(AskTellError, match="not the trial that was asked"):
        search.tell([Outcome(forged, potential=1.0)])
    done = {trial.id for trial in trials} - {outcome.trial.id for outcome in waiting}
    if done:
        again = chance.choice([trial for trial in trials if trial.id in done])
        with pytest.raises(AskTellError, match="told before"):
            search.tell([judge(again)])


def test_a_round_hears_its_outcomes_in_the_order_in_which_it_asked() -> None:
    heard: list[str] = []

    class Listener(RoundwiseStrategy[BestOfNParams]):
        def search(self) -> Search[None]:
            outcomes = yield self.fresh_trials(self.params.n)
            heard.extend(outcome.trial.id for outcome in outcomes)

    search = Listener(BestOfNParams(n=3))
    search.tell([by_noise(trial) for trial in reversed(search.ask())])
    assert search.ask() == []
    assert heard == ["c1", "c2", "c3"]


def test_ties_go_to_the_earlier_trial_beyond_one_digit() -> None:
    outcomes = flat(play(SearchPlan("best_of_n", {"n": 12}), lambda trial: Outcome(trial, 1.0)))
    assert [o.trial.id for o in ranked(reversed(outcomes))] == [f"c{i}" for i in range(1, 13)]


def test_there_is_no_best_when_everything_failed() -> None:
    outcomes = flat(play(SearchPlan(), lambda trial: Outcome(trial, failure=FAILURE)))
    assert len(outcomes) == 4
    assert best(outcomes) is None


def test_plans_of_different_size_and_strategy_start_with_the_same_noises() -> None:
    plans = [
        SearchPlan("best_of_n", {"n": 4}, seed=3),
        SearchPlan("best_of_n", {"n": 8}, seed=3),
        SearchPlan("eacps", seed=3),
        SearchPlan("random", seed=3),
        SearchPlan("halving", seed=3),
        SearchPlan("ade_cot", seed=3),
    ]
    starts = [[trial.noise for trial in create(plan).ask()][:4] for plan in plans]
    assert starts[1:] == starts[:1] * 5


def test_random_doubles_its_rounds() -> None:
    trials = create(SearchPlan("random", {"rounds": 4})).ask()
    assert [sum(trial.round == r for trial in trials) for r in range(6)] == [0, 2, 4, 8, 16, 0]


def test_eacps_gives_children_to_the_best_of_all_rounds_at_a_shrinking_angle() -> None:
    params = {"k": 3, "m": 1, "k_local": 2, "rounds": 3, "angle": 0.8, "angle_decay": 0.5}
    worth = {"c1": 1.0, "c2": 5.0, "c3": 2.0, "c4": 3.0, "c5": 4.0, "c6": 6.0, "c7": 0.0}
    rounds = play(
        SearchPlan("eacps", params), lambda trial: Outcome(trial, worth.get(trial.id, 0.0))
    )
    assert [[o.trial.lineage for o in outcomes] for outcomes in rounds] == [
        ["global"] * 3,
        ["child of c2 at angle 0.8"] * 2,
        ["child of c2 at angle 0.4"] * 2,
        ["child of c6 at angle 0.2"] * 2,
    ]
    assert [move.angle for move in rounds[3][0].trial.noise.moves] == [0.4, 0.2]


def test_eacps_angles_never_shrink_to_nothing() -> None:
    params = {"k": 1, "m": 1, "k_local": 1, "rounds": 100, "angle_decay": 0.1}
    last = flat(play(SearchPlan("eacps", params), by_noise))[-1].trial
    assert last.noise.moves[-1].angle == 0.01


def test_eacps_by_seed_offset_counts_up_from_the_parent_past_what_was_asked() -> None:
    params = {"k": 1, "m": 1, "k_local": 3, "rounds": 2, "moves": "seed"}
    first, *children = [o.trial for o in flat(play(SearchPlan("eacps", params), by_noise))]
    assert [child.noise.seed - first.noise.seed for child in children] == [1, 2, 3, 4, 5, 6]
    assert children[0].lineage == "child of c1 by seed offset"


def test_eacps_with_fewer_usable_candidates_than_elites_uses_those() -> None:
    def only_c3(trial: Trial) -> Outcome:
        return Outcome(trial, 1.0) if trial.id == "c3" else Outcome(trial, failure=FAILURE)

    rounds = play(SearchPlan("eacps", {"rounds": 2}), only_c3)
    assert [[o.trial.parent for o in outcomes] for outcomes in rounds[1:]] == [["c3"] * 2] * 2


@pytest.mark.parametrize(
    "plan",
    [
        SearchPlan("best_of_n", {"n": 100_000}),
        SearchPlan("random", {"rounds": 15}),
        SearchPlan("eacps", {"k": 1000, "m": 50, "k_local": 20, "rounds": 40}),
        SearchPlan("eacps", {"k": 1, "m": 1, "k_local": 600, "rounds": 100, "moves": "seed"}),
        SearchPlan("halving", {"n": 50_000, "rungs": [[0.3, 10_000], [0.6, 1000]]}),
        SearchPlan("ade_cot", {"n": 30_000, "difficulty": False}, batch_size=1),
    ],
    ids=lambda plan: plan.strategy,
)
def test_huge_searches_are_feasible(plan: SearchPlan) -> None:
    outcomes = flat(play(plan, lambda trial: Outcome(trial, float(trial.noise.seed % 997))))
    assert len({outcome.trial.noise for outcome in outcomes}) == budget(plan)
