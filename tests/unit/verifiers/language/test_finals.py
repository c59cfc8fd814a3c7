"""Finals: candidates that nearly tie are compared in pairs, by real judges, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eacps.domain import Candidate, EditTask, Noise, SearchPlan, SearchResult, Trial
from eacps.images import TaskImages
from eacps.runner.finals import PREFERENCE, finalists, finals
from eacps.runner.judging import Judge
from eacps.runner.pictures import Picture
from eacps.runner.rendering import Rendered, StoredImage
from eacps.scoring.potential import Potential
from eacps.settings import Settings
from eacps.verifiers.scorer import VerifierScorer
from tests.judge_server import JudgeServer, picture_of, serving
from tests.unit.verifiers.language.judges import SOURCE, judge_at

PLAN = SearchPlan("best_of_n", {"n": 5}, finals=4)
BRIGHTNESS = {"c1": 4, "c2": 6, "c3": 9, "c4": 5, "c5": 1}
POTENTIALS = {"c1": 0.80, "c2": 0.78, "c3": 0.75, "c4": 0.6, "c5": 0.1}


def result(**plan: Any) -> SearchResult:
    candidates = tuple(
        Candidate(Trial(name, Noise(number)), image=f"{name}.png", potential=potential)
        for number, (name, potential) in enumerate(POTENTIALS.items())
    )
    task = EditTask("a.png", "make it bright", plan=replace(PLAN, **plan))
    return SearchResult(task, candidates, nfe=1, seconds=1)


class Device:
    """Runs final batches with a real judge, on pictures that are known."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.asked: list[Trial] = []

    def __call__(self, batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        [trials] = batches
        self.asked += trials
        rendered = []
        for trial in trials:
            image = picture_of(BRIGHTNESS[trial.id])
            rendered.append(Rendered(trial, StoredImage(Picture("i", "t"), image, image)))
        task = EditTask("a.png", "make it bright")
        return self.judge.candidates(task, TaskImages(SOURCE), rendered)


def device(server: JudgeServer, folder: Path, *others: JudgeServer) -> Device:
    judges = {
        f"judge {number}": judge_at(each.address, folder / str(number), attempts=1)
        for number, each in enumerate((server, *others))
    }
    settings = Settings(_env_file=None)
    return Device(Judge([VerifierScorer(judges)], Potential.of(settings), settings))


def test_those_that_nearly_tie_are_put_in_the_order_of_their_strength(tmp_path: Path) -> None:
    with serving() as server:
        run = device(server, tmp_path)
        found = finals(result(), run)
        # Both orders of all three pairs; c4 and c5 are too far behind.
        assert len(server.heard) == 6
    assert [one.id for one in found.candidates] == ["c3", "c2", "c1", "c4", "c5"]
    assert found.best.potential == POTENTIALS["c3"]
    [strength] = [each for each in found.best.metrics if each.name == PREFERENCE]
    assert strength.value > 0
    assert strength.contribution == 0
    assert found.best.why == "Preferred in pairs: It is brighter."
    assert found.decisions == (
        "The best 3 candidates nearly tied, and were compared in pairs: c3, c2, c1.",
    )
    assert {trial.stage for trial in run.asked} == {"final"}


def test_a_judge_that_is_down_leaves_the_order_and_says_so(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=lambda _: "broken")) as server:
        found = finals(result(), device(server, tmp_path))
    assert found.candidates == result().candidates
    [note] = found.decisions
    assert "stay in this order: judge 0: it answers 500: broken, sorry" in note


def test_of_two_judges_one_may_be_down(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=lambda _: "broken")) as down, serving() as up:
        found = finals(result(), device(down, tmp_path, up))
    assert found.best.id == "c3"


@pytest.mark.parametrize("plan", [{"finals": 0}, {"finals": 1}])
def test_without_finals_nothing_is_asked(plan: dict[str, int]) -> None:
    def refuse(_: object) -> list[Candidate]:
        raise AssertionError

    assert finals(result(**plan), refuse) == result(**plan)
    clear = replace(result(), candidates=(result().candidates[0], result().candidates[4]))
    assert finals(clear, refuse) == clear


def test_finalists_are_the_best_that_nearly_tie_and_no_more_than_asked_for() -> None:
    assert [one.id for one in finalists(result())] == ["c1", "c2", "c3"]
    assert [one.id for one in finalists(result(finals=2))] == ["c1", "c2"]
    swap = replace(result(), task=replace(result().task, route="face_swap"))
    assert finalists(swap) == []


def test_a_scorer_that_cannot_compare_leaves_the_order(tmp_path: Path) -> None:
    settings = Settings(_env_file=None)
    run = Device(Judge([], Potential.of(settings), settings))
    found = finals(result(), run)
    assert found.candidates == result().candidates
    assert "no judge can compare them" in found.decisions[0]


def test_finals_are_part_of_a_tasks_key_and_without_them_keys_are_as_before() -> None:
    plain = EditTask("a.png", "add a hat", plan=SearchPlan())
    assert plain.key == EditTask("a.png", "add a hat", plan=SearchPlan(finals=0)).key
    assert plain.key != EditTask("a.png", "add a hat", plan=SearchPlan(finals=4)).key


def test_only_a_judge_that_ranks_has_finals() -> None:
    def planned(**given: object) -> int:
        return Settings(_env_file=None, **given).plan.finals  # type: ignore[arg-type]

    assert planned() == 0
    assert planned(verifier="openai:m") == 4
    assert planned(verifier="openai:m", finals=0) == 0
    assert planned(verifier="openai:m", potential="eacps") == 0
    plain = Settings(_env_file=None)
    assert plain.fingerprint == Settings(_env_file=None, finals=6).fingerprint
