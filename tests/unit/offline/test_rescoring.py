"""`eacps rescore`: finished results under another judge, with nothing rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eacps.artifacts import open_store
from eacps.cli.app import app
from eacps.domain import Candidate, EditTask, Failure, Metric, Noise, SearchResult, Trial, to_json
from eacps.images import encode_png, thumbnail
from eacps.offline.run import at_home
from eacps.settings import Settings
from tests.judge_server import JudgeServer, picture_of, serving


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A task with three judged candidates, a stopped one, a failed one, and one without scores."""
    folder = tmp_path / "results"
    store = open_store(at_home(Settings(_env_file=None), folder))

    def put(score: int) -> str:
        return store.put(encode_png(picture_of(score)), "png")

    def candidate(number: int, score: int, potential: float | None, **more: Any) -> Candidate:
        metric = Metric("pf", 0.1, 0.1, 1, 0.1)
        return Candidate(
            Trial(f"c{number}", Noise(number), to_step=more.pop("to_step", None)),
            image=put(score),
            thumbnail=store.put(thumbnail(picture_of(score)), "jpg"),
            metrics=(metric,),
            potential=potential,
            nfe=24,
            **more,
        )

    candidates = (
        candidate(1, 2, 0.9),
        candidate(2, 8, 0.5),
        candidate(3, 5, 0.1),
        candidate(6, 9, None, failure=Failure("scoring_failed", "The judge was down.")),
        candidate(4, 9, 0.3, to_step=4, failure=Failure("pruned", "Stopped at step 4 of 12.")),
        Candidate(Trial("c5", Noise(5)), failure=Failure("editor_failed", "no memory")),
    )
    task = EditTask(put(3), "make it bright")
    result = SearchResult(task, candidates, nfe=96, seconds=1.0)
    head = {"name": "one", "id": 1, "data": {}, "job": "job-one", "best": "c1"}
    (folder / "one.json").write_text(json.dumps({**head, **to_json(result)}))
    return folder


def test_another_judge_finds_another_best_and_keeps_what_was_stopped_or_failed(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    with serving() as server:
        monkeypatch.setenv("EACPS_VERIFIER", f"openai:m@{server.address}/v1")
        done = CliRunner().invoke(app, ["rescore", str(results), "--out", "rescored"])
        again = CliRunner().invoke(app, ["rescore", str(results), "--out", "rescored"])
        asked = len(server.heard)
    assert done.exit_code == again.exit_code == 0, done.output
    assert "one: c6 is best, it was c1" in done.output
    assert "1 tasks have another best candidate, 0 the same; 0 not judged" in done.output
    # c4 and c6 show the same picture, so five are judged by four or five questions.
    assert asked in (4, 5)
    written = json.loads((tmp_path / "rescored" / "one.json").read_text())
    assert written["best"] == "c6"
    order = [each["trial"]["id"] for each in written["candidates"]]
    assert order == ["c6", "c2", "c3", "c1", "c4", "c5"]
    codes = [(each["failure"] or {}).get("code") for each in written["candidates"]]
    assert codes == [None, None, None, None, "pruned", "editor_failed"]
    assert written["candidates"][1]["potential"] == pytest.approx((8 / 9) ** 2)
    assert "It is 8 bright." in written["candidates"][1]["why"]
    best = tmp_path / "rescored" / "one" / "best.png"
    assert best.read_bytes() == (tmp_path / "rescored" / "one" / "c6.png").read_bytes()
    assert {path: path.read_bytes() for path in before} == before


def test_a_judge_that_is_down_leaves_the_results_as_they_are(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(JudgeServer(fault=lambda _: "broken")) as server:
        monkeypatch.setenv("EACPS_VERIFIER", f"openai:m@{server.address}/v1")
        monkeypatch.setenv("EACPS_PLUGIN_OPTIONS", '{"openai": {"attempts": 1}}')
        done = CliRunner().invoke(app, ["rescore", str(results), "--out", "rescored"])
    assert done.exit_code == 1
    assert "it answers 500: broken, sorry" in done.output
    assert not (tmp_path / "rescored" / "one.json").exists()


def test_the_results_themselves_are_never_replaced(
    results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, words in (
        ([str(results), "--out", str(results)], "which are kept as they are"),
        ([str(tmp_path), "--out", "x"], "has no results of `eacps run`"),
    ):
        done = CliRunner().invoke(app, ["rescore", *given])
        assert words in str(done.exception)
