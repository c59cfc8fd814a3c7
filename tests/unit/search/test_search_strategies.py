"""What holds for every registered strategy, whichever trials fail, in any order of outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eacps.domain import Noise, Outcome, SearchPlan, Trial
from eacps.errors import SettingsError
from eacps.search import best, budget, create, describe, finished, names, ranked
from eacps.search.roundwise import RoundwiseStrategy, Search
from eacps.search.strategies.best_of_n import BestOfN, BestOfNParams
from eacps.search.strategies.eacps import Eacps
from eacps.search.strategies.halving import Halving
from eacps.testing import ContractError, check_strategy
from eacps.testing.strategies import FAILURE, by_noise, failing, play

EVERY_STRATEGY = pytest.mark.parametrize("name", names())
UNHURRIED = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


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
@given(data=st.data(), luck=st.integers(0, 10**6))
def test_every_strategy_keeps_the_contract(name: str, data: st.DataObject, luck: int) -> None:
    plan = data.draw(plans(name))
    check_strategy(
        name,
        plan.params,
        seed=plan.seed,
        batch_size=plan.batch_size,
        steps=plan.steps,
        lucks=[luck],
    )


@EVERY_STRATEGY
@UNHURRIED
@given(data=st.data(), luck=st.integers(0, 99))
def test_the_ranking_has_every_usable_outcome_whatever_its_order(
    name: str, data: st.DataObject, luck: int
) -> None:
    outcomes = play(data.draw(plans(name)), failing(luck, 0.3)).outcomes
    usable = [o for o in outcomes if o.usable and math.isfinite(o.potential or 0.0)]
    assert set(map(id, ranked(outcomes))) == set(map(id, usable))
    ended = finished(outcomes)
    assert ranked(reversed(ended)) == ranked(ended)


def test_a_round_receives_its_outcomes_in_the_order_in_which_it_asked() -> None:
    received: list[str] = []

    class Listener(RoundwiseStrategy[BestOfNParams]):
        def search(self) -> Search[None]:
            outcomes = yield self.fresh_trials(self.params.n)
            received.extend(outcome.trial.id for outcome in outcomes)

    search = Listener(BestOfNParams(n=3))
    search.tell([by_noise(trial) for trial in reversed(search.ask())])
    assert search.ask() == []
    assert received == ["c1", "c2", "c3"]


def test_ties_go_to_the_earlier_trial_beyond_one_digit() -> None:
    outcomes = play(SearchPlan("best_of_n", {"n": 12}), lambda trial: Outcome(trial, 1.0)).outcomes
    assert [o.trial.id for o in ranked(reversed(outcomes))] == [f"c{i}" for i in range(1, 13)]


def test_there_is_no_best_when_everything_failed() -> None:
    outcomes = play(SearchPlan(), lambda trial: Outcome(trial, failure=FAILURE)).outcomes
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
    ).rounds
    assert [[o.trial.lineage for o in outcomes] for outcomes in rounds] == [
        ["global"] * 3,
        ["child of c2 at angle 0.8"] * 2,
        ["child of c2 at angle 0.4"] * 2,
        ["child of c6 at angle 0.2"] * 2,
    ]
    assert [move.angle for move in rounds[3][0].trial.noise.moves] == [0.4, 0.2]


def test_eacps_angles_never_shrink_below_their_minimum() -> None:
    params = {"k": 1, "m": 1, "k_local": 1, "rounds": 100, "angle_decay": 0.1}
    last = play(SearchPlan("eacps", params), by_noise).trials[-1]
    assert last.noise.moves[-1].angle == 0.01


def test_eacps_by_seed_offset_counts_up_from_the_parent_and_skips_used_seeds() -> None:
    params = {"k": 1, "m": 1, "k_local": 3, "rounds": 2, "moves": "seed"}
    first, *children = play(SearchPlan("eacps", params), by_noise).trials
    assert [child.noise.seed - first.noise.seed for child in children] == [1, 2, 3, 4, 5, 6]
    assert children[0].lineage == "child of c1 by seed offset"


def test_eacps_with_fewer_usable_candidates_than_elites_uses_all_of_them() -> None:
    def only_c3(trial: Trial) -> Outcome:
        return Outcome(trial, 1.0) if trial.id == "c3" else Outcome(trial, failure=FAILURE)

    rounds = play(SearchPlan("eacps", {"rounds": 2}), only_c3).rounds
    assert [[o.trial.parent for o in outcomes] for outcomes in rounds[1:]] == [["c3"] * 2] * 2


@pytest.mark.parametrize(
    "plan",
    [
        SearchPlan("best_of_n", {"n": 20_000}),
        SearchPlan("random", {"rounds": 13}),
        SearchPlan("eacps", {"k": 1000, "m": 50, "k_local": 20, "rounds": 10}),
        SearchPlan("eacps", {"k": 1, "m": 1, "k_local": 600, "rounds": 25, "moves": "seed"}),
        SearchPlan("halving", {"n": 20_000, "rungs": [[0.3, 4000], [0.6, 400]]}),
        SearchPlan("ade_cot", {"n": 15_000, "difficulty": False}, batch_size=1),
    ],
    ids=lambda plan: plan.strategy,
)
def test_huge_searches_are_feasible(plan: SearchPlan) -> None:
    done = play(plan, lambda trial: Outcome(trial, float(trial.noise.seed % 997)))
    assert len({trial.noise for trial in done.trials}) == budget(plan)


class Endless(BestOfN):
    """Never stops asking."""

    def search(self) -> Search[None]:
        while True:
            yield self.fresh_trials(1)


class Random(BestOfN):
    """Draws noises that do not depend on the seed."""

    drawn = 0

    def search(self) -> Search[None]:
        for _ in range(self.params.n):
            Random.drawn += 1
            yield [self.trial(Noise(Random.drawn))]


class Seedless(BestOfN):
    def search(self) -> Search[None]:
        yield [self.trial(Noise(5 + index)) for index in range(self.params.n)]


class Quitting(BestOfN):
    """Stops early without saying so in its parameters."""

    def search(self) -> Search[None]:
        yield self.fresh_trials(1)


@dataclass(frozen=True)
class SilentParams:
    """Parameters of a search that may stop early."""

    n: int = 8
    stops_early: ClassVar[bool] = True

    @property
    def budget(self) -> int:
        return self.n


class Silent(Quitting):
    """Stops early without a note."""

    Params: ClassVar[type[Any]] = SilentParams


class Spending(BestOfN):
    def search(self) -> Search[None]:
        yield self.fresh_trials(self.params.n + 1)


class Repeating(BestOfN):
    """Tries the same noise again and again."""

    def search(self) -> Search[None]:
        noise = Noise(self.seeds.fresh())
        yield [self.trial(noise) for _ in range(self.params.n)]


class Renaming(BestOfN):
    def trial(self, noise: Noise, **more: Any) -> Trial:
        given = super().trial(noise, **more)
        return replace(given, id=f"trial-{given.id}")


class Adopting(Eacps):
    """Names a parent, but does not use the parent's noise."""

    def child(self, parent: Trial, **more: Any) -> Trial:
        stranger = Noise(self.seeds.fresh()).moved(0.1, self.seeds.fresh())
        return replace(super().child(parent, **more), noise=stranger)


class Changing(Halving):
    """Resumes trials with another instruction."""

    def ask(self) -> Sequence[Trial]:
        return [
            replace(trial, instruction_suffix="now") if trial.to_step is None else trial
            for trial in super().ask()
        ]

    def _check(self, outcome: Outcome, told: Any) -> None:
        plain = replace(outcome.trial, instruction_suffix="")
        super()._check(replace(outcome, trial=plain), told)


class Trusting(BestOfN):
    """Accepts any outcome."""

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self._waiting.pop(outcome.trial.id, None)
            self._told[outcome.trial.id] = outcome


class InOrder(BestOfN):
    """Lets the order of the outcomes decide what comes next."""

    @cached_property
    def received(self) -> list[int]:
        return []

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        super().tell(outcomes)
        self.received.extend(outcome.trial.noise.seed for outcome in outcomes)

    def search(self) -> Search[None]:
        yield self.fresh_trials(self.params.n - 1)
        yield [self.trial(Noise(self.received[0] // 2))]


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Endless, "does not end"),
        (Random, "two searches with the same inputs differ"),
        (Seedless, "another seed starts with the same noise"),
        (Quitting, "began 1 of 8 trials"),
        (Silent, "without a note"),
        (Spending, "began 9 trials, but its budget is 8"),
        (Repeating, "two trials have the same noise"),
        (Renaming, "not named c1, c2"),
        (Adopting, "is not its parent's noise with one more move"),
        (Changing, "changes when it is continued"),
        (Trusting, "does not raise AskTellError"),
        (InOrder, "depend on the order"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_reported(
    strategy: type, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eacps.testing.strategies.ENDLESS", 50)
    with pytest.raises(ContractError, match=words):
        check_strategy(f"{__name__}:{strategy.__name__}")
