"""Finals: candidates that nearly tie are compared in pairs, by real judges, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, Noise, SearchPlan, SearchResult, Trial
from eacps.images import TaskImages, encode_png
from eacps.runner import Device as RenderingDevice
from eacps.runner import search
from eacps.runner.finals import finalists, finals
from eacps.runner.judging import Judge
from eacps.runner.pictures import Picture
from eacps.runner.rendering import Rendered, StoredImage
from eacps.scoring.potential import Potential
from eacps.search.comparing import PREFERENCE
from eacps.settings import Settings
from eacps.verifiers.scorer import VerifierScorer
from tests.doubles import SlowPainter
from tests.judge_server import Heard, JudgeServer, picture_of, serving, truthful
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


def tied(heard: Heard) -> str:
    """Scores that tie; in pairs the truth."""
    if "better" in heard.text:
        return truthful(heard)
    names = ("satisfied", "preserved", "intact")
    return json.dumps({name: {"reason": "Seen.", "score": 5} for name in names})


def elites_of(server: JudgeServer, folder: Path) -> tuple[SearchResult, list[list[str]]]:
    """A search that chooses its elite in pairs, and the batches that it ran."""
    settings = Settings(_env_file=None, potential="weighted", weights={"verified": 1})
    scorer = VerifierScorer({"judge": judge_at(server.address, folder, attempts=1)})
    store = ArtifactStore(f"file://{folder}/store")
    device = RenderingDevice(SlowPainter(), [scorer], Potential.of(settings), store, settings)
    params = {"k": 5, "m": 1, "k_local": 2, "pairwise_elites": 5}
    plan = SearchPlan("eacps", params, batch_size=2, steps=10)
    task = EditTask(store.put(encode_png(SOURCE), "png"), "make it bright", plan=plan)
    asked: list[list[str]] = []

    def run(batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        asked.extend([trial.id for trial in batch] for batch in batches)
        return [one for batch in batches for one in device.run_batch(task, batch)]

    return search(task, run, potential_range=(0.0, 1.0)), asked


def test_an_elite_is_chosen_in_pairs_where_scores_tie(tmp_path: Path) -> None:
    with serving(JudgeServer(say=tied)) as server:
        found, asked = elites_of(server, tmp_path)
        compared = sum("better" in heard.text for heard in server.heard)
    # In one batch, whatever its size, and both orders of all ten pairs.
    assert asked == [["c1", "c2"], ["c3", "c4"], ["c5"], ["c1", "c2", "c3", "c4", "c5"],
                     ["c6", "c7"]]  # fmt: skip
    assert compared == 20
    by_id = {one.id: one for one in found.candidates}
    brightest = max(
        ["c1", "c2", "c3", "c4", "c5"], key=lambda name: by_id[name].trial.noise.seed % 200
    )
    assert {by_id[name].trial.parent for name in ("c6", "c7")} == {brightest}
    assert f"compared in pairs: {brightest} went on." in found.decisions[0]
    assert {one.nfe for one in found.candidates} == {10}


def test_elites_stay_in_order_while_no_judge_compares_them(tmp_path: Path) -> None:
    fault = lambda heard: "broken" if "better" in heard.text else ""  # noqa: E731
    with serving(JudgeServer(fault=fault, say=tied)) as server:
        found, _ = elites_of(server, tmp_path)
    by_id = {one.id: one for one in found.candidates}
    assert {by_id[name].trial.parent for name in ("c6", "c7")} == {"c1"}
    assert "nearly tie for the best 1; no judge compared them in pairs." in found.decisions[0]
    assert any("Not compared in pairs: judge: it answers 500" in each for each in by_id["c1"].notes)
