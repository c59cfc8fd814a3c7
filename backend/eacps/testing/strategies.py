"""Checks a strategy, with failing trials and with outcomes in any order."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eacps.domain import Failure, Outcome, SearchPlan, Trial
from eacps.search import (
    AskTellError,
    Strategy,
    best,
    budget,
    cost,
    create,
    finished,
    ranked,
    stops_early,
)
from eacps.search.comparing import PREFERENCE, is_comparison
from eacps.testing.contract import ContractError, require

Judge = Callable[[Trial], Outcome]
FAILURE = Failure("editor_failed", "out of memory")
SCORES = ("satisfied", "preserved", "intact", "region", "caption", "pf", "nearest_similarity")
SHARES = (0.0, 0.3, 0.8, 1.0)
"""Shares of trials that fail."""
ENDLESS = 10_000
"""More rounds than any sensible search has."""


def check_strategy(
    name: str,
    params: Any = None,
    *,
    seed: int = 0,
    batch_size: int = 4,
    steps: int = 12,
    lucks: Iterable[int] = range(3),
) -> None:
    """Run whole searches with simulated outcomes, in which trials fail in every possible way.

    >>> check_strategy("best_of_n", {"n": 6})
    >>> check_strategy("halving", {"n": 8, "rungs": [[0.25, 2]]})
    """
    plan = SearchPlan(name, params or {}, seed, batch_size, steps=steps)
    _spends_what_it_says(plan)
    for luck in lucks:
        for share in SHARES:
            _check_search(plan, failing(luck, share), random.Random(luck))


def by_noise(trial: Trial) -> Outcome:
    """A simulated potential with ties."""
    seeds = [trial.noise.seed, *(move.seed for move in trial.noise.moves)]
    return Outcome(trial, potential=float(sum(seeds) % 11), nfe=30)


def failing(luck: int, share: float) -> Judge:
    """A judge that fails a share of the trials in all possible ways, and gives the others some of
    the scores that strategies use."""

    def judge(trial: Trial) -> Outcome:
        chance = random.Random(f"{luck}{trial.id}{trial.to_step}")
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


@dataclass
class FinishedSearch:
    """A finished search."""

    plan: SearchPlan
    rounds: list[list[Outcome]] = field(default_factory=list)
    notes: Sequence[str] = ()
    steps: int = 0
    drafted: int = 0
    """The steps of drafts, which a full render of the same noise does not save."""

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, in order."""
        return [outcome for outcomes in self.rounds for outcome in outcomes]

    @property
    def trials(self) -> list[Trial]:
        """Every trial once, as it was first requested."""
        first: dict[str, Trial] = {}
        for outcome in self.outcomes:
            first.setdefault(outcome.trial.id, outcome.trial)
        return list(first.values())

    @property
    def cost(self) -> float:
        """The cost in full renders."""
        return self.steps / self.plan.steps


def play(plan: SearchPlan, judge: Judge) -> FinishedSearch:
    """Run a search, counting denoising steps as a real editor would spend them."""
    search, done = create(plan), FinishedSearch(plan)
    stands: dict[str, int] = {}
    while trials := search.ask():
        require(len(done.rounds) < ENDLESS, "the search does not end")
        if is_comparison(trials):
            _compares_what_is_known(trials, done)
            search.tell([compared(trial) for trial in trials])
            continue
        for trial in trials:
            to_step = plan.steps if trial.to_step is None else trial.to_step
            done.steps += to_step - stands.get(trial.id, 0)
            if trial.draft:
                done.drafted += to_step
            else:
                stands[trial.id] = to_step
        done.rounds.append([judge(trial) for trial in trials])
        search.tell(done.rounds[-1])
    require(search.ask() == [], "after the end of the search, ask() does not return []")
    done.notes = search.notes
    return done


def compared(trial: Trial) -> Outcome:
    """A simulated outcome of a comparison, without a strength for every eighth trial."""
    chance = random.Random(f"{trial.id}{trial.to_step}")
    known = chance.random() >= 1 / 8
    return Outcome(trial, scores={PREFERENCE: chance.choice([-1.0, 0.0, 1.0])} if known else {})


def _compares_what_is_known(trials: Sequence[Trial], done: FinishedSearch) -> None:
    usable = {(one.trial.id, one.trial.to_step) for one in done.outcomes if one.usable}
    names = [(trial.id, trial.to_step) for trial in trials]
    require(len(set(names)) == len(names), "it compares a trial with itself")
    require(usable.issuperset(names), "it compares a trial that has no result")


def _check_search(plan: SearchPlan, judge: Judge, chance: random.Random) -> None:
    done = play(plan, judge)
    require(
        repr(play(plan, judge).rounds) == repr(done.rounds),
        "two searches with the same inputs differ",
    )
    other = create(replace(plan, seed=plan.seed ^ 1)).ask()[0].noise
    require(other != done.trials[0].noise, "another seed starts with the same noise")
    _stays_within_its_budget(done)
    _asks_nothing_twice(done)
    _carries_trials_on_unchanged(done)
    _tells_the_truth_about_parents(done)
    _ends_with_a_result_where_it_can(done)
    _does_not_depend_on_the_order(done, judge, chance)


def _spends_what_it_says(plan: SearchPlan) -> None:
    done = play(plan, by_noise)
    _stays_within_its_budget(done)
    require(done.cost <= cost(plan) + 1e-9, f"it cost {done.cost:g} renders, not {cost(plan):g}")
    if stops_early(plan):
        saved = len(done.trials) < budget(plan)
        require(not saved or bool(done.notes), "it stopped early without a note that says why")
        return
    words = "without failures, and without `stops_early` in its Params, it "
    began, planned = len(done.trials), budget(plan)
    require(began == planned, f"{words}began {began} of {planned} trials")
    spent, stated = done.cost, cost(plan)
    require(math.isclose(spent, stated), f"{words}cost {spent:g} renders instead of {stated:g}")


def _stays_within_its_budget(done: FinishedSearch) -> None:
    began, planned = len(done.trials), budget(done.plan)
    require(0 < began <= planned, f"it began {began} trials, but its budget is {planned}")
    # Other trials are continued in place of failed ones.
    most = began + done.drafted / done.plan.steps
    require(done.cost <= most + 1e-9, f"{began} trials cost {done.cost:g} renders")


def _asks_nothing_twice(done: FinishedSearch) -> None:
    asked = [(outcome.trial.id, outcome.trial.to_step) for outcome in done.outcomes]
    require(len(set(asked)) == len(asked), "it asked for the same trial twice")
    for outcomes in done.rounds:
        names = {outcome.trial.id for outcome in outcomes}
        require(len(names) == len(outcomes), "one ask() returned a trial twice")
    trials = done.trials
    expected = [f"c{index + 1}" for index in range(len(trials))]
    require([trial.id for trial in trials] == expected, "its trials are not named c1, c2, c3 ...")
    require(len({trial.noise for trial in trials}) == len(trials), "two trials have the same noise")
    latest = [trial.noise.moves[-1:] or trial.noise.seed for trial in trials]
    seeds = [each if isinstance(each, int) else each[0].seed for each in latest]
    require(len(set(seeds)) == len(seeds), "two trials have the same seed")
    require(
        all(0 <= seed < 2**63 for seed in seeds), "a seed is not in the range from 0 to 2^63 - 1"
    )


def _carries_trials_on_unchanged(done: FinishedSearch) -> None:
    before: dict[str, Outcome] = {}
    for outcome in done.outcomes:
        trial, steps = outcome.trial, done.plan.steps
        within = trial.to_step is None or 1 <= trial.to_step < steps
        require(within, f"{trial.id} should pause at step {trial.to_step} of {steps}")
        earlier = before.get(trial.id)
        if earlier is not None:
            _is_carried_on(earlier, trial, steps)
        before[trial.id] = outcome


def _is_carried_on(earlier: Outcome, trial: Trial, steps: int) -> None:
    require(bool(ranked([earlier])), f"{trial.id} is continued although it failed")
    paused = earlier.trial.to_step
    forward = paused is not None and paused < (trial.to_step or steps)
    require(forward, f"{trial.id} is requested again, but not for a later step")
    drafted = earlier.trial.draft and trial.draft
    same = replace(earlier.trial, to_step=trial.to_step, draft=drafted) == trial
    require(same, f"{trial.id} changes when it is continued")


def _tells_the_truth_about_parents(done: FinishedSearch) -> None:
    told: dict[str, Outcome] = {}
    for outcomes in done.rounds:
        together = {outcome.trial.id: outcome.trial for outcome in outcomes}
        for trial in together.values():
            if trial.parent is None:
                begun = (trial.stage, trial.noise.moves) == ("global", ())
                require(begun, f"{trial.id} has no parent, but is not a new global trial")
            else:
                _has_its_parent(trial, told, together)
        told |= {outcome.trial.id: outcome for outcome in outcomes}


def _has_its_parent(trial: Trial, told: dict[str, Outcome], together: dict[str, Trial]) -> None:
    name = trial.parent or ""
    require(name in told or name in together, f"{trial.id} has a parent that was never requested")
    if name in told:
        good = bool(ranked([told[name]])) and told[name].trial.to_step is None
        require(good, f"{trial.id} is a child of {name}, which failed or is only paused")
    parent = told[name].trial if name in told else together[name]
    require(trial.stage == "local", f"{trial.id} has a parent, but is not `local`")
    later = trial.round > parent.round or parent.id in together
    require(later, f"{trial.id} is not in a later round than its parent")
    last = trial.noise.moves[-1:]
    if last:
        moved = parent.noise.moved(last[0].angle, last[0].seed)
        require(
            trial.noise == moved,
            f"the noise of {trial.id} is not its parent's noise with one more move",
        )


def _ends_with_a_result_where_it_can(done: FinishedSearch) -> None:
    last = {outcome.trial.id: outcome for outcome in done.outcomes}
    drafted = any(one.trial.draft and one.usable for one in done.outcomes)
    found = drafted or best(done.outcomes) is not None or not ranked(last.values())
    require(found, "it ended without a finished trial, although it could have continued one")
    usable = [one for one in finished(done.outcomes) if ranked([one])]
    if usable:
        # Among equals the earlier trial wins, even if it was finished later.
        first = max(usable, key=lambda one: (one.potential or 0.0, -int(one.trial.id[1:])))
        require(best(done.outcomes) is first, "the best trial is not the winner")


def _does_not_depend_on_the_order(
    done: FinishedSearch, judge: Judge, chance: random.Random
) -> None:
    search, trials = create(done.plan), list[Trial]()
    while batch := list(search.ask()):
        comparison = is_comparison(batch)
        trials += [] if comparison else batch
        waiting = [compared(trial) if comparison else judge(trial) for trial in batch]
        chance.shuffle(waiting)
        while waiting:
            _refuses_wrong_calls(search, trials, waiting, judge)
            size = chance.randint(0, len(waiting))
            search.tell(waiting[:size])
            waiting = waiting[size:]
    asked = [outcome.trial for outcome in done.outcomes]
    require(trials == asked, "its trials depend on the order of outcomes")


def _refuses_wrong_calls(
    search: Strategy, trials: Sequence[Trial], waiting: list[Outcome], judge: Judge
) -> None:
    def refused(call: Callable[[], Any], words: str) -> None:
        try:
            call()
        except AskTellError:
            return
        raise ContractError(f"it does not raise AskTellError {words}")

    one = waiting[0]
    stranger = Outcome(Trial("c0", one.trial.noise))
    forged = Outcome(replace(one.trial, noise=one.trial.noise.moved(0.1, 1)), potential=1.0)
    refused(search.ask, "if ask() is called while outcomes are missing")
    refused(
        lambda: search.tell([*waiting, stranger]), "if tell() gets a trial that it never asked for"
    )
    refused(lambda: search.tell([*waiting, one]), "if tell() gets a trial twice")
    refused(lambda: search.tell([forged]), "if tell() gets a trial with another noise")
    done = {trial.id for trial in trials} - {outcome.trial.id for outcome in waiting}
    if done:
        again = next(trial for trial in trials if trial.id in done)
        refused(lambda: search.tell([judge(again)]), "if tell() gets a trial again")
