"""Early feedback: which trials are paused, go on or come back, and when a search stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from eacps.domain import Failure, Outcome, SearchPlan, Trial
from eacps.search import Strategy, best, create, finished
from eacps.search.gain import expected_gain
from eacps.search.strategies.auto import Auto
from eacps.testing.strategies import FinishedSearch, play

FAILURE = Failure("editor_failed", "out of memory")
PASSED = {"satisfied": 0.9, "preserved": 0.95, "intact": 1.0}
Asks = list[list[tuple[str, int | None]]]


def later_is_better(trial: Trial) -> Outcome:
    """c9 beats c8."""
    return Outcome(trial, potential=float(trial.id[1:]))


def scored(scores: Mapping[str, Mapping[str, float]]) -> Callable[[Trial], Outcome]:
    """c9 beats c8; scores by id."""
    return lambda trial: Outcome(trial, float(trial.id[1:]), scores.get(trial.id, {}))


def without(*failed: tuple[str, int | None]) -> Callable[[Trial], Outcome]:
    """c9 beats c8, but some trials fail before they reach some step."""

    def judge(trial: Trial) -> Outcome:
        if (trial.id, trial.to_step) in failed:
            return Outcome(trial, failure=FAILURE)
        return later_is_better(trial)

    return judge


def asked(done: FinishedSearch) -> Asks:
    return [[(o.trial.id, o.trial.to_step) for o in outcomes] for outcomes in done.rounds]


def halving(n: int, *rungs: tuple[float, int], steps: int = 12) -> SearchPlan:
    return SearchPlan("halving", {"n": n, "rungs": [list(rung) for rung in rungs]}, steps=steps)


def ade_cot(batch_size: int = 4, **params: Any) -> SearchPlan:
    return SearchPlan("ade_cot", params, batch_size=batch_size)


def test_halving_keeps_the_best_previews_of_every_rung() -> None:
    done = play(halving(5, (0.25, 3), (0.5, 2)), later_is_better)
    assert asked(done) == [
        [("c1", 3), ("c2", 3), ("c3", 3), ("c4", 3), ("c5", 3)],
        [("c5", 6), ("c4", 6), ("c3", 6)],
        [("c5", None), ("c4", None)],
    ]
    assert done.notes == (
        "Step 3: c5, c4, c3 of 5 previews went on.",
        "Step 6: c5, c4 of 3 previews went on.",
    )


def test_rungs_that_fall_on_the_same_step_become_one() -> None:
    done = play(halving(4, (0.3, 3), (0.4, 2), (0.5, 1), steps=3), later_is_better)
    assert [[step for _, step in ask] for ask in asked(done)] == [[1] * 4, [2] * 2, [None]]


def test_a_render_too_short_to_pause_is_finished_without_a_pause() -> None:
    done = play(halving(4, (0.5, 1), steps=1), later_is_better)
    assert [[step for _, step in ask] for ask in asked(done)] == [[None] * 4]


def test_a_pruned_candidate_comes_back_when_everything_that_was_kept_failed() -> None:
    judge = without(("c3", 6), ("c4", None), ("c2", None))
    done = play(halving(4, (0.25, 2), (0.5, 1)), judge)
    assert asked(done)[1:] == [
        [("c4", 6), ("c3", 6)],
        [("c4", None)],
        [("c2", None)],
        [("c1", None)],
    ]
    winner = best(done.outcomes)
    assert winner is not None
    assert winner.trial.id == "c1"


def test_the_closing_rung_says_how_many_results_there_must_be() -> None:
    done = play(halving(6, (0.5, 3), (1.0, 2)), without(("c6", None), ("c5", None)))
    assert asked(done)[1:] == [[("c6", None), ("c5", None), ("c4", None)], [("c3", None)]]


def test_a_preview_never_wins() -> None:
    paused = Outcome(Trial("c1", play(halving(1), later_is_better).trials[0].noise, to_step=3), 9)
    assert best([paused]) is None


def test_eacps_prunes_its_global_and_its_local_stage_by_previews() -> None:
    params = {"k": 4, "m": 1, "k_local": 2, "rungs": [[0.5, 2]], "local_rungs": [[0.25, 1]]}
    done = play(SearchPlan("eacps", params), later_is_better)
    assert asked(done) == [
        [("c1", 6), ("c2", 6), ("c3", 6), ("c4", 6)],
        [("c4", None), ("c3", None)],
        [("c5", 3), ("c6", 3)],
        [("c6", None)],
    ]
    assert {o.trial.parent for o in done.rounds[2]} == {"c4"}


def spread_out(width: float) -> Callable[[Trial], Outcome]:
    """Scores with this spread, in no particular order."""
    return lambda trial: Outcome(trial, width * (int(trial.id[1:]) * 7 % 5))


@pytest.mark.parametrize(("width", "candidates"), [(0.0, 4), (0.01, 4), (1.0, 16 + 3 * 4)])
def test_adaptive_eacps_spends_where_scores_are_spread(width: float, candidates: int) -> None:
    params = {"k": 16, "rounds": 3, "adaptive": True, "least_gain": 0.01}
    done = play(SearchPlan("eacps", params), spread_out(width))
    assert len(done.trials) == candidates
    stopped = [note.split(":")[0] for note in done.notes]
    if candidates == 4:
        assert stopped == [
            "The global stage stopped after 4 of 16 candidates",
            "Local search stopped before round 1 of 3",
        ]
    else:
        assert stopped == []


def test_adaptive_eacps_draws_whole_batches() -> None:
    params = {"k": 40, "adaptive": True, "least_gain": 0.0}
    done = play(SearchPlan("eacps", params, batch_size=16), spread_out(1.0))
    assert [len(ask) for ask in done.rounds] == [16, 16, 8, 4]


def test_adaptive_eacps_decides_by_first_previews_when_it_has_rungs() -> None:
    params = {"k": 12, "adaptive": True, "rungs": [[0.25, 2]]}
    done = play(SearchPlan("eacps", params), spread_out(0.0))
    assert [[step for _, step in ask] for ask in asked(done)] == [[3] * 4, [None] * 2]


def test_a_wide_spread_and_a_modest_best_score_raise_the_expected_gain() -> None:
    narrow, wide = [0.4, 0.5, 0.6], [0.0, 0.5, 1.0]
    assert expected_gain(wide, 1.0) > expected_gain(narrow, 0.6) > 0
    assert expected_gain(narrow, 0.6) > expected_gain(narrow, 0.9) >= 0
    assert expected_gain([0.3], 0.3) == math.inf
    assert expected_gain([1e308, -1e308, 1e308], 1e308) > 0
    assert math.isfinite(expected_gain([1e308, -1e308, 1e308], 1e308))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_ade_cot_fills_the_batch_of_the_first_edit_with_further_candidates(
    batch_size: int,
) -> None:
    first, *_ = asked(play(ade_cot(batch_size), later_is_better))
    assert first[0] == ("c1", None)
    assert first[1:] == [(f"c{i + 1}", 3) for i in range(1, min(8, batch_size))]


def test_ade_cot_begins_fewer_candidates_when_the_first_edit_is_good() -> None:
    def quality(value: float) -> Callable[[Trial], Outcome]:
        return lambda trial: Outcome(trial, 1.0, {"satisfied": value})

    begun = [
        len(play(ade_cot(stop=False, gamma=1.0), quality(value)).trials)
        for value in (0.0, 0.3, 0.5)
    ]
    assert begun == [8, 6, 5]


def test_without_a_verifier_ade_cot_judges_the_first_edit_by_its_potential() -> None:
    plan = ade_cot(1, gamma=1.0, lowest=0.0, highest=10.0)
    done = play(plan, lambda trial: Outcome(trial, 5.0))
    assert len(done.trials) == 5
    assert done.notes[0] == "First quality 0.50: 5 of 8 candidates."


def test_ade_cot_begins_all_candidates_when_the_first_edit_failed() -> None:
    done = play(ade_cot(), without(("c1", None)))
    assert len(done.trials) == 8
    assert best(done.outcomes) is not None


def test_ade_cot_prunes_twice_and_finishes_the_most_promising_first() -> None:
    done = play(ade_cot(batch_size=1, difficulty=False, n=8), later_is_better)
    assert asked(done) == [
        [(f"c{i}", 3) for i in range(1, 9)],
        [("c8", 7), ("c7", 7), ("c6", 7), ("c5", 7)],
        [("c8", None)],
        [("c7", None)],
    ]


def test_ade_cot_stops_as_soon_as_enough_results_pass_the_verifier() -> None:
    plan = ade_cot(batch_size=1, difficulty=False, prune=False, n=5, enough=2)
    flawed = {**PASSED, "preserved": 0.5}
    done = play(plan, scored({"c1": PASSED, "c2": flawed, "c3": PASSED, "c4": PASSED}))
    assert asked(done) == [[("c1", None)], [("c2", None)], [("c3", None)]]
    assert done.notes[-1] == "Stopped when 2 results had passed; 2 were left unfinished."


def test_without_a_verifier_ade_cot_stops_by_calibrated_thresholds() -> None:
    plan = ade_cot(
        1, difficulty=False, prune=False, n=5, at_least={"potential": 2.0}, at_most={"lpips": 0.2}
    )
    scores = {"c1": {"lpips": 0.1}, "c2": {"lpips": 0.3}, "c4": {"lpips": 0.2}}
    assert asked(play(plan, scored(scores)))[-1] == [("c4", None)]


def test_ade_cot_finishes_a_batch_at_a_time() -> None:
    plan = ade_cot(batch_size=3, difficulty=False, prune=False, n=8)
    assert [len(ask) for ask in asked(play(plan, later_is_better))] == [3, 3, 2]


def test_ade_cot_without_verifier_and_thresholds_finishes_everything() -> None:
    done = play(ade_cot(batch_size=1, difficulty=False, prune=False), later_is_better)
    assert len(finished(done.outcomes)) == 8


def test_ade_cot_stops_when_the_first_edit_passes() -> None:
    done = play(ade_cot(), scored({"c1": PASSED}))
    assert len(done.rounds) == 1


def test_ade_cot_drops_near_duplicates_of_better_previews() -> None:
    plan = ade_cot(difficulty=False, n=4, early_keep=1.0, late_keep=1.0)
    alike = {"c4": {"nearest_similarity": 0.99}, "c2": {"nearest_similarity": 0.99}}
    done = play(plan, scored({**alike, "c3": {"nearest_similarity": 0.5}}))
    # c4 is the best preview, so it is not a duplicate of a better one.
    assert asked(done)[1] == [("c4", 7), ("c3", 7), ("c1", 7)]
    assert done.notes[0] == "Left out as near-duplicates of better previews: c2."


def test_ade_cot_comes_back_to_a_near_duplicate_when_the_better_one_fails() -> None:
    plan = ade_cot(difficulty=False, n=2)
    done = play(
        plan,
        lambda trial: Outcome(
            trial,
            float(trial.id[1:]),
            {"nearest_similarity": 0.99} if trial.id == "c1" else {},
            failure=FAILURE if (trial.id, trial.to_step) == ("c2", None) else None,
        ),
    )
    assert asked(done)[-1] == [("c1", None)]


def test_ade_cot_prunes_by_region_and_caption_in_addition_to_the_potential() -> None:
    scores = {
        "c1": {"region": 1.0, "caption": 1.0},
        "c2": {"region": 0.9, "caption": 0.0},
        "c3": {"region": 0.0, "caption": 0.0},
    }
    plan = ade_cot(difficulty=False, n=3, early_keep=0.34)
    assert asked(play(plan, scored(scores)))[1] == [("c1", 7), ("c2", 7)]
    alone = ade_cot(difficulty=False, n=3, early_keep=0.34, region_weight=0.0, caption_weight=0.0)
    assert asked(play(alone, scored(scores)))[1] == [("c3", 7), ("c2", 7)]


def test_ade_cot_leaves_out_a_score_that_some_previews_lack() -> None:
    scores = {"c1": {"region": 1.0}, "c2": {"region": 0.5}}
    plan = ade_cot(difficulty=False, n=3)
    assert asked(play(plan, scored(scores)))[1] == [("c3", 7), ("c2", 7)]


def test_ade_cot_compares_captions_only_if_every_preview_has_one() -> None:
    plan = ade_cot(difficulty=False, n=3, early_keep=0.3, caption_weight=9.0)
    following = {"c1": {"pf": 0.9}, "c2": {"pf": 0.1}, "c3": {"pf": 0.1}}
    described = {name: {**each, "caption": 0.1} for name, each in following.items()}
    described["c2"]["caption"] = 0.9
    assert asked(play(plan, scored(described)))[1] == [("c2", 7)]
    # A caption's similarity and the instruction's are different scales.
    del described["c3"]["caption"]
    assert asked(play(plan, scored(described)))[1] == [("c1", 7)]


@pytest.mark.parametrize(("share", "rounds"), [(0.6, 3), (0.8, 1), (1.0, 1)])
def test_ade_cot_stops_only_by_results_that_answer_the_questions_of_their_task(
    share: float, rounds: int
) -> None:
    plan = ade_cot(1, difficulty=False, prune=False, n=3)
    done = play(plan, scored({"c1": {**PASSED, "instance": share}}))
    assert len(done.rounds) == rounds


def test_a_first_edit_that_answers_all_questions_with_yes_counts_for_a_little_more() -> None:
    def begun(instance: float) -> int:
        scores = {"c1": {"satisfied": 0.5, "instance": instance}}
        return len(play(ade_cot(stop=False, prune=False, gamma=1.0, n=100), scored(scores)).trials)

    assert (begun(0.8), begun(1.0)) == (51, 46)


def test_every_part_of_ade_cot_can_be_switched_off() -> None:
    plan = ade_cot(difficulty=False, prune=False, stop=False)
    done = play(plan, scored(dict.fromkeys((f"c{i}" for i in range(1, 9)), PASSED)))
    assert asked(done) == [[(f"c{i}", None) for i in range(1, 9)]]


def waves(**params: Any) -> SearchPlan:
    return SearchPlan("waves", {"n": 2, "waves": 3, "rungs": [[0.5, 1]], **params}, steps=12)


def test_another_wave_begins_only_while_no_result_is_good() -> None:
    done = play(waves(), scored({"c2": {"satisfied": 0.5}, "c4": PASSED}))
    first, second = [("c1", 6), ("c2", 6)], [("c3", 6), ("c4", 6)]
    assert asked(done) == [first, [("c2", None)], second, [("c4", None)]]
    assert done.notes[-1] == ("Stopped after 2 of 3 waves: c4's quality is 0.90, at least 0.85.")


def test_waves_end_when_their_number_is_used_up() -> None:
    done = play(waves(good=1.0), scored({}))
    assert [trials[0][1] for trials in asked(done)] == [6, None] * 3


def test_without_a_verifier_quality_is_the_position_of_the_potential_between_its_bounds() -> None:
    done = play(waves(lowest=0.0, highest=4.0, good=0.9), later_is_better)
    assert [trials[0][0] for trials in asked(done)] == ["c1", "c2", "c3", "c4"]


def test_a_wave_in_which_everything_failed_does_not_end_the_search_that_has_a_result() -> None:
    done = play(waves(good=1.0), without(("c3", 6), ("c4", 6)))
    assert asked(done)[-1] == [("c6", None)]


def test_waves_end_when_every_trial_of_the_first_one_failed() -> None:
    assert len(asked(play(waves(), without(("c1", 6), ("c2", 6))))) == 1


def auto(steps: int, answer: Callable[[Trial], Outcome]) -> tuple[list[list[Trial]], Strategy]:
    """What the default `auto` asks for, round by round."""
    search = create(SearchPlan("auto", steps=steps))
    asks = []
    while trials := search.ask():
        asks.append(list(trials))
        search.tell([answer(trial) for trial in trials])
    return asks, search


def test_auto_stops_after_a_wave_with_a_good_result() -> None:
    asks, search = auto(10, lambda trial: Outcome(trial, 1.0, {"satisfied": 0.9, "intact": 0.86}))
    assert [(len(ask), ask[0].to_step) for ask in asks] == [(8, 4), (2, None)]
    assert "Stopped after wave 1 of 4" in search.notes[-1]


def test_auto_expects_more_waves_only_if_a_verifier_judges() -> None:
    for answers, expected in (({"satisfied": 0.5}, 32), ({}, 8)):
        search = create(SearchPlan("auto", steps=10))
        assert isinstance(search, Auto)
        assert search.expected == 8
        search.tell([Outcome(trial, 1.0, answers) for trial in search.ask()])
        search.ask()
        assert search.expected == expected


def test_auto_runs_all_waves_when_no_result_is_good() -> None:
    asks, _ = auto(10, lambda trial: Outcome(trial, 1.0, {"satisfied": 0.9, "intact": 0.5}))
    assert [(len(ask), ask[0].to_step) for ask in asks] == 4 * [(8, 4), (2, None)]


def test_auto_without_a_verifier_finishes_every_attempt() -> None:
    asks, search = auto(10, lambda trial: Outcome(trial, float(trial.id[1:])))
    assert [(len(ask), ask[0].to_step) for ask in asks] == [(8, 4), (8, None)]
    assert {trial.id for trial in asks[0]} == {trial.id for trial in asks[1]}
    assert "no verifier" in search.notes[0]


@pytest.mark.parametrize("steps", [2, 10])
def test_auto_finishes_every_attempt_when_it_cannot_pause(steps: int) -> None:
    def answer(trial: Trial) -> Outcome:
        if trial.to_step is not None:
            return Outcome(trial, failure=Failure("cannot_pause", "This solver cannot."))
        return Outcome(trial, 1.0)

    asks, search = auto(steps, answer)
    assert [trial.to_step for trial in asks[-1]] == [None] * 8
    assert len(search.notes) == 1
