"""The tables that compare searches with a tuned best of N choose on held-in tasks only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.search.entries import entries
from benchmarks.search.fair import equal_cost, few_steps, restated, sources
from benchmarks.search.judges import CLIP, ORACLE, VERIFIER, eacps_with
from benchmarks.search.prices import seconds
from benchmarks.search.results import Results

PRICES = {"open": 1.0, "step": 0.1, "picture": 0.05, "judge": {"clip": 0.01, "verifier": 0.25}}
FEW = "best of 8, 3 steps"


def run(part: str, search: str, right: int, nfe: float, judge: str = VERIFIER) -> dict[str, Any]:
    """A row of ten tasks, of which the first `right` succeed."""
    success = "1" * right + "0" * (10 - right)
    family = "best of N" if search.startswith("best of") else search.split(maxsplit=1)[0]
    values = dict.fromkeys(("score", "pf", "lpips", "cons", "potential"), [0.5] * 10)
    return {
        **{"kind": "run", "level": "medium", "part": part, "search": search, "family": family},
        **{"judge": judge, "success": success, "nfe": [nfe] * 10, "judged": [8] * 10, "steps": 10},
        **values,
    }


def results(*runs: Mapping[str, Any], part: str) -> Results:
    facts = {"kind": "set", "level": "medium", "part": part, "tasks": 10, "steps": 10}
    own = [one for one in runs if one["part"] == part]
    rows: list[Mapping[str, Any]] = [{"kind": "machine", "prices": PRICES}, facts, *own]
    return Results(rows, "medium", part)


@pytest.fixture
def pair() -> tuple[Results, Results]:
    """What is best on new tasks is not what was best on held-in ones."""
    runs = []
    for part, few, slow, waves, halving in (("new", 5, 9, 7, 9), ("held-in", 8, 5, 9, 6)):
        runs += [
            run(part, "best of 8", slow, 8.0),
            run(part, "best of 8", 4, 8.0, CLIP),
            run(part, "best of 8", 9, 8.0, ORACLE),
            run(part, "best of 1", 3, 1.0, CLIP),
            run(part, "best of 1, 3 steps", 3, 0.3, CLIP),
            run(part, FEW, few, 2.4),
            run(part, "waves 8x4 2@40% 1@60%, good 0.85", waves, 7.5),
            run(part, "halving 8", halving, 8.0),
            run(part, "refine 4", 10, 9.0),
        ]
    return results(*runs, part="new"), results(*runs, part="held-in")


def test_both_sides_are_chosen_on_held_in_tasks_and_reported_on_others(
    pair: tuple[Results, Results],
) -> None:
    row = equal_cost(*pair, VERIFIER, "seconds").rows[0]
    assert row[1] == FEW
    assert row[6].startswith("waves")
    assert row[5].startswith("50.0 ")
    assert row[10].startswith("70.0 ")
    assert row[11].startswith("+20.0 ")
    assert row[12] == "2/8/0"
    # refine succeeds most often, and costs more than the budget
    assert "refine" not in row[6]


def test_a_claim_is_measured_again_and_against_the_tuned_baseline(
    pair: tuple[Results, Results],
) -> None:
    [waves, by_clip] = restated(*pair).rows
    assert waves[2] == "+7.0 [+2.7, +11.0]"
    assert waves[3].startswith("-20.0 ")
    assert waves[4].startswith(FEW)
    assert waves[5].startswith("+20.0 ")
    assert waves[6] == "not shown"
    assert by_clip[3].startswith("+30.0 ")


@pytest.mark.parametrize(
    ("ours", "tuned", "verdict"), [(10, 2, "yes"), (7, 5, "not shown"), (2, 10, "no")]
)
def test_a_claim_stands_only_if_its_interval_lies_above_zero(
    ours: int, tuned: int, verdict: str
) -> None:
    runs = []
    for part, held_in in (("new", False), ("held-in", True)):
        runs += [
            run(part, "best of 8", 5, 8.0),
            run(part, FEW, 8 if held_in else tuned, 2.4),
            run(part, "waves 8x4 2@40% 1@60%, good 0.85", ours, 7.5),
        ]
    [claim] = restated(results(*runs, part="new"), results(*runs, part="held-in")).rows
    assert claim[4].startswith(FEW)
    assert claim[6] == verdict


def test_fewer_steps_are_shown_beside_the_usual_ones(pair: tuple[Results, Results]) -> None:
    rows = {row[0]: row for row in few_steps(pair[0]).rows}
    assert set(rows) == {"3", "10"}
    assert rows["3"][7].startswith("-40.0 ")
    assert rows["10"][7] == "-"


def test_seconds_count_opening_steps_pictures_and_the_judge() -> None:
    assert seconds(PRICES, VERIFIER, 24, 8) == pytest.approx(1 + 2.4 + 8 * 0.30)
    assert seconds(PRICES, CLIP, 24, 8) == pytest.approx(1 + 2.4 + 8 * 0.06)
    assert seconds(PRICES, "verified + pf_dir", 0, 1) == pytest.approx(1 + 0.31)
    assert seconds(PRICES, ORACLE, 0, 1) == pytest.approx(1 + 0.30)


def test_the_published_comparison_counts_winners_per_metric() -> None:
    ours = run("new", "EACPS 4/2/2, angle 0.4", 3, 8.0, eacps_with(0.0)) | {
        "pf": [0.9] * 4 + [0.5] * 6,
        "lpips": [0.4] * 3 + [0.6] * 7,
    }
    both = results(ours, run("new", "best of 4", 5, 4.0, CLIP), part="new")
    table = sources(both)
    assert table is not None
    [row] = table.rows
    assert row[3:7] == ("4/6/0", "0/10/0", "3/0/7", "0/10/0")
    assert sources(results(part="new")) is None


def test_every_search_has_a_name_of_its_own_and_a_baseline_in_the_same_steps() -> None:
    every = entries()
    names = [entry.label for entry in every]
    assert len(names) == len(set(names))
    baselines = {entry.steps for entry in every if entry.strategy == "best_of_n"}
    assert {entry.steps for entry in every} <= baselines


def test_the_order_of_rows_does_not_matter(pair: tuple[Results, Results]) -> None:
    def shuffled(one: Results) -> Results:
        rows = [each.row for each in reversed(one.runs)]
        return results(*rows, part=one.part)

    again = (shuffled(pair[0]), shuffled(pair[1]))
    assert equal_cost(*again, VERIFIER, "nfe") == equal_cost(*pair, VERIFIER, "nfe")
