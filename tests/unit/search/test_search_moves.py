"""Searches that build on what they found: zero-order steps, and re-edits with a critique."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eacps.domain import Failure, Outcome, SearchPlan, Trial
from eacps.search.criticism import LENGTH, criticism
from eacps.testing.strategies import FinishedSearch, play

FAILURE = Failure("editor_failed", "out of memory")


def by_id(worth: Mapping[str, float]) -> Callable[[Trial], Outcome]:
    return lambda trial: Outcome(trial, worth.get(trial.id, 0.0))


def zero_order(**params: object) -> SearchPlan:
    return SearchPlan("zero_order", {"num_neighbors": 2, **params})


def test_zero_order_moves_to_a_better_neighbour_and_draws_a_new_base_otherwise() -> None:
    done = play(zero_order(rounds=4), by_id({"c1": 5.0, "c3": 6.0, "c8": 1.0}))
    parents = [[o.trial.parent for o in outcomes] for outcomes in done.rounds]
    assert parents == [
        [None, "c1", "c1"],
        ["c3", "c3"],  # c3 beat c1; it is not rendered again
        [None, "c6", "c6"],  # nothing beat c3
        ["c8", "c8"],
    ]
    assert done.notes == ("In 2 of 4 rounds a neighbour beat its base.",)


def test_zero_order_neighbours_keep_the_threshold_as_cosine() -> None:
    done = play(zero_order(threshold=0.8, rounds=1), by_id({}))
    angles = [move.angle for o in done.outcomes for move in o.trial.noise.moves]
    assert [math.cos(angle) for angle in angles] == pytest.approx([0.8, 0.8])


def test_zero_order_angles_shrink_with_every_move_and_are_reset_by_a_new_base() -> None:
    plan = zero_order(num_neighbors=1, rounds=4, threshold=0.0, angle_decay=0.5)
    done = play(plan, by_id({"c2": 1.0, "c3": 2.0}))
    last = [outcomes[-1].trial.noise.moves[-1].angle for outcomes in done.rounds]
    assert last == pytest.approx([math.pi / 2 * share for share in (1, 0.5, 0.25, 1)])


def test_zero_order_goes_on_from_a_neighbour_when_the_base_failed() -> None:
    def judge(trial: Trial) -> Outcome:
        return Outcome(trial, 1.0, failure=None if trial.id == "c3" else FAILURE)

    done = play(zero_order(), judge)
    assert [o.trial.parent for o in done.rounds[1]] == ["c3", "c3"]


def test_zero_order_by_seed_offset() -> None:
    base, *neighbours = play(zero_order(moves="seed", rounds=1), by_id({})).outcomes
    assert [o.trial.noise.seed - base.trial.noise.seed for o in neighbours] == [1, 2]


def refined(qualities: Mapping[str, float], **params: object) -> list[list[Trial]]:
    """The trials of a search in which candidates have these values of `preserved`, others 0.1."""

    def judge(trial: Trial) -> Outcome:
        value = qualities.get(trial.id, 0.1)
        return Outcome(trial, value, {"satisfied": 1.0, "preserved": value})

    plan = SearchPlan("refine", {"n": 1, "per_step": 1, "angle": 0.8, **params})
    return [[o.trial for o in outcomes] for outcomes in play(plan, judge).rounds]


def test_refine_appends_a_critique_of_the_best_attempt() -> None:
    (first,), (second,), (third,), (fourth,) = refined({"c2": 0.5})
    assert (first.instruction_suffix, first.lineage) == ("", "global")
    assert second.instruction_suffix == "Change nothing else."
    assert second.lineage == "child of c1 at angle 0.8, told: Change nothing else."
    assert [trial.parent for trial in (second, third, fourth)] == ["c1", "c2", "c2"]
    angles = [trial.noise.moves[-1].angle for trial in (second, third, fourth)]
    assert angles == [0.8, 0.4, 0.2]


def test_refine_stops_once_the_best_is_good() -> None:
    assert len(refined({"c1": 0.95})) == 1
    assert len(refined({"c2": 0.99})) == 2


def test_refine_keeps_the_instruction_between_its_thresholds_and_only_moves_the_noise() -> None:
    (_,), (plain,), *_ = refined({"c1": 0.9})
    assert (plain.parent, plain.instruction_suffix) == ("c1", "")
    (_,), (second,), (third,), *_ = refined({"c2": 0.9})
    assert second.instruction_suffix == third.instruction_suffix == "Change nothing else."


def test_refine_uses_metrics_without_a_verifier() -> None:
    params = {"at_least": {"pf": 0.3}, "at_most": {"lpips": 0.2}, "lowest": 0.0, "highest": 1.0}
    plan = SearchPlan("refine", {"n": 1, "per_step": 1, "max_steps": 1, **params})
    scores = {"pf": 0.2, "lpips": 0.4}
    done = play(plan, lambda trial: Outcome(trial, 0.5, scores))
    suffix = done.outcomes[1].trial.instruction_suffix
    assert suffix == "Carry it out fully. Change nothing else."


REASONS = {"preserved": "The sky is\ndarker", "satisfied": "The hat is red."}


def criticised(judge: Callable[[Trial], Outcome] | None = None, **params: object) -> FinishedSearch:
    """A search whose judge gives these reasons."""

    def answer(trial: Trial) -> Outcome:
        return Outcome(trial, 0.1, {"satisfied": 1.0, "preserved": 0.1}, reasons=REASONS)

    plan = SearchPlan("refine", {"n": 1, "per_step": 1, **params})
    return play(plan, judge or answer)


def test_refine_tells_the_editor_what_the_judge_found_wrong() -> None:
    _, second, third, _ = (o.trial for o in criticised(critic="judge").outcomes)
    # The reason for a good answer is no criticism, and words do not pile up.
    assert second.instruction_suffix == third.instruction_suffix == "Avoid this: The sky is darker."
    assert second.lineage == "child of c1 at angle 0.4, told: Avoid this: The sky is darker."


def test_refine_keeps_to_its_fixed_words_unless_it_is_asked_for_the_judges() -> None:
    plans: list[dict[str, Any]] = [{}, {"critic": "fixed"}]
    for params in plans:
        assert criticised(**params).outcomes[1].trial.instruction_suffix == "Change nothing else."
    (_,), (second,), *_ = refined({}, critic="judge")
    assert second.instruction_suffix == "Change nothing else."


def test_refine_tells_which_questions_of_the_task_were_answered_with_no() -> None:
    def judge(trial: Trial) -> Outcome:
        scores = {"satisfied": 0.5, "instance": 0.4}
        return Outcome(trial, 0.5, scores, reasons={"instance": "The hat is blue."})

    assert criticised(judge, critic="judge").outcomes[1].trial.instruction_suffix == (
        "Avoid this: The hat is blue."
    )


def test_refine_goes_back_to_fixed_words_where_the_editor_takes_no_others() -> None:
    def judge(trial: Trial) -> Outcome:
        scores = {"satisfied": 1.0, "preserved": 0.1}
        failed = FAILURE if trial.instruction_suffix.startswith("Avoid") else None
        return Outcome(trial, None if failed else 0.1, scores, failure=failed, reasons=REASONS)

    done = criticised(judge, critic="judge")
    assert [o.trial.instruction_suffix for o in done.outcomes] == [
        "",
        "Avoid this: The sky is darker.",
        "Change nothing else.",
        "Change nothing else.",
    ]
    assert "No edit with the judge's words succeeded: fixed ones from now on." in done.notes


@given(
    st.dictionaries(
        st.sampled_from(["satisfied", "preserved", "intact", "instance"]), st.text(max_size=500)
    ),
    st.dictionaries(st.sampled_from(["satisfied", "preserved", "intact"]), st.floats()),
)
def test_no_reason_gets_out_of_its_line(reasons: dict[str, str], scores: dict[str, float]) -> None:
    words = criticism(scores, reasons, set(reasons))
    assert len(words) <= LENGTH
    assert all(one.isalnum() or one in " .,;:'?!%/-" for one in words)
    assert words == "" or words.startswith("Avoid this: ")


def test_long_reasons_are_cut_at_a_word_and_later_ones_left_out() -> None:
    long = "The hat is " + "very " * 60 + "blue."
    reasons = {"satisfied": long, "intact": "There is a seam."}
    words = criticism({"satisfied": 0.1, "intact": 0.2}, reasons, set(reasons))
    assert words.startswith("Avoid this: The hat is very")
    assert words.endswith(" very.")
    assert len(words) <= LENGTH


def test_refine_asks_for_all_trials_of_a_step_together() -> None:
    assert [len(trials) for trials in refined({}, n=3, per_step=4, max_steps=2)] == [3, 4, 4]
