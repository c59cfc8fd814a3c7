"""`eacps judge measure`: every layout that is read, what is counted, and how it resumes."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eacps.artifacts import open_store
from eacps.cli.app import app
from eacps.errors import SettingsError
from eacps.images import encode_png
from eacps.offline.judging import statistics
from eacps.offline.judging.datasets import demo_labelled, read_labelled
from eacps.offline.judging.measuring import Setup, measure
from eacps.offline.judging.statistics import Group, share
from eacps.settings import Settings
from tests.judge_server import Heard, JudgeServer, picture_of, serving
from tests.unit.verifiers.language.judges import settings_of


def png(score: int) -> bytes:
    return encode_png(picture_of(score))


def saved(folder: Path, name: str, score: int) -> str:
    (folder / name).write_bytes(png(score))
    return name


def own_rows(folder: Path, groups: Sequence[Sequence[int]]) -> Path:
    """Tasks whose candidates are as good as they are bright."""
    rows = []
    for number, scores in enumerate(groups):
        candidates = [
            {"image": saved(folder, f"{number}-{place}.png", score), "grade": score}
            for place, score in enumerate(scores)
        ]
        source = saved(folder, f"{number}.png", 3)
        words = f"make it bright {number}"
        rows.append(
            {"id": number, "source": source, "instruction": words, "candidates": candidates}
        )
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_editscores_rows_are_read_from_parquet_and_from_json(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = {
        "key": ["k1", "k2"],
        "instruction": "brighter",
        "task_type": "color",
        "dimension": "overall",
        "input_image": {"bytes": png(3), "path": None},
        "output_images": [{"bytes": png(8), "path": None}, {"bytes": png(2), "path": None}],
    }
    parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / "train-0.parquet")
    [item] = read_labelled(tmp_path, Settings(_env_file=None))
    assert item.truth == [1.0, 0.0]
    assert item.instruction == "brighter"
    assert [image().tobytes() for image in item.candidates] == [
        picture_of(8).tobytes(),
        picture_of(2).tobytes(),
    ]
    (tmp_path / "train-0.parquet").unlink()
    plain = {**row, "input_image": saved(tmp_path, "s.png", 3)}
    plain["output_images"] = [saved(tmp_path, "a.png", 8), saved(tmp_path, "b.png", 2)]
    (tmp_path / "rows.jsonl").write_text(json.dumps(plain))
    [again] = read_labelled(tmp_path, Settings(_env_file=None))
    assert again.name == item.name
    assert again.source().tobytes() == picture_of(3).tobytes()


def test_tigers_comparisons_of_one_sample_are_one_task(tmp_path: Path) -> None:
    def data(score: int) -> str:
        return f"data:image/png;base64,{base64.b64encode(png(score)).decode()}"

    scores = {"A": 2, "B": 8, "C": 5}

    def ranking(first: str, second: str) -> str:
        return ">".join(sorted((first, second), key=lambda name: -scores[name]))

    rows = [
        {
            "id": f"17_{first}{second}",
            "dataset": "3pair",
            "instruction": "brighter",
            "source_image": data(3),
            "candidate_1": data(scores[first]),
            "candidate_2": data(scores[second]),
            "comparison_type": f"{first}vs{second}",
            "ranking": f"{first}>{second}"
            if scores[first] > scores[second]
            else f"{second}>{first}",
        }
        for first, second in ("AB", "AC", "BC")
    ]
    (tmp_path / "3pair").mkdir()
    (tmp_path / "3pair" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [item] = read_labelled(tmp_path, Settings(_env_file=None))
    assert item.truth == [0.0, 2.0, 1.0]
    assert [image().getpixel((0, 0))[0] // 28 for image in item.candidates] == [2, 8, 5]  # type: ignore[index]


def test_an_exported_ranking_is_read_with_its_pictures_from_the_store(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    store = open_store(settings)
    names = {f"c{score}": store.put(png(score), "png") for score in (9, 6, 1)}
    review = {
        "task": 4,
        "annotation": 7,
        "ranked": ["c9", "c6"],
        "rejected": ["c1"],
        "candidates": {name: {"file": file, "key": "k"} for name, file in names.items()},
        "problems": [],
        "instruction": "brighter",
        "source_file": store.put(png(3), "png"),
    }
    lines = [review, {**review, "problems": ["The verdict is missing."]}, {**review, "ranked": []}]
    path = tmp_path / "export.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    items = read_labelled(path, settings)
    assert [item.truth for item in items] == [[2.0, 1.0, 0.0]]
    assert items[0].candidates[0]().tobytes() == picture_of(9).tobytes()


def test_nothing_to_read_says_what_can_be(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no rows"):
        read_labelled(tmp_path, Settings(_env_file=None))
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(SettingsError, match="has candidates in an order"):
        read_labelled(tmp_path, Settings(_env_file=None))
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(SettingsError, match="cannot be read as JSON rows"):
        read_labelled(tmp_path, Settings(_env_file=None))


def test_the_demos_tasks_have_one_right_edit() -> None:
    items = demo_labelled(5)
    for item in items:
        assert item.truth[0] == max(item.truth)
        assert sum(grade == item.truth[0] for grade in item.truth) == 1
    assert [item.truth for item in items] == [item.truth for item in demo_labelled(5)]


def test_a_judge_that_sees_the_truth_is_perfect_and_one_that_does_not_is_chance(
    tmp_path: Path,
) -> None:
    groups = [[9, 5, 1], [2, 7], [4, 4, 8, 0]]
    path = own_rows(tmp_path, groups)

    def same(_: Heard) -> str:
        return '{"satisfied": {"reason": "", "score": 5}, "preserved": {"reason": "", "score": 5}}'

    with serving() as good, serving(JudgeServer(say=same)) as bad:
        settings = settings_of(tmp_path / "data")
        items = read_labelled(path, settings)
        names = [f"openai:{name}@{server.address}/v1" for name, server in (("a", good), ("b", bad))]
        found = measure(names, items, tmp_path / "out", Setup(settings))
        assert len(good.heard) == 9
        # In the fourth task two candidates are the same picture, asked about once.
    perfect, chance = (found[name] for name in names)
    assert perfect["auc"]["mean"] == perfect["pairs_right"]["mean"] == 1
    assert perfect["best_chosen"]["mean"] == perfect["tasks_right"]["mean"] == 1
    assert perfect["rank_correlation"] == {"mean": 1, "low": 1, "high": 1, "tasks": 2}
    assert (perfect["ties"]["mean"], perfect["missing"]["mean"]) == (0, 0)
    assert chance["auc"]["mean"] == 0.5
    assert chance["ties"]["mean"] == 1
    assert chance["pairs_right"]["mean"] == 0
    assert (perfect["read"], perfect["written"]) == (good.read, good.written)
    assert "AUC inside a task" in (tmp_path / "out" / "auc.svg").read_text()


def test_a_measurement_resumes_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    path = own_rows(tmp_path, [[9, 1], [8, 2], [7, 3]])
    away = True

    def fault(heard: Heard) -> str:
        return "broken" if away and heard.instruction.endswith("2") else ""

    with serving(JudgeServer(fault=fault)) as server:
        name = f"openai:m@{server.address}/v1"
        options = {"openai": {"attempts": 1}}
        settings = settings_of(tmp_path / "data", plugin_options=options, judge_cache_days=0)
        items = read_labelled(path, settings)
        first = measure([name], items, tmp_path / "out", Setup(settings))[name]
        assert first["missing"]["mean"] == pytest.approx(1 / 3)
        assert first["problems"] == {
            "openai:m: it answers 500: broken, sorry.": 1,
        }
        [rows] = (tmp_path / "out").glob("*.jsonl")
        rows.write_text(rows.read_text() + '{"item": "cut o')
        away = False
        asked = len(server.heard)
        again = measure([name], items, tmp_path / "out", Setup(settings))[name]
        assert len(server.heard) == asked + 2
        assert again["missing"]["mean"] == 0
        measure([name], items, tmp_path / "out", Setup(settings))
        assert len(server.heard) == asked + 2


def test_pairs_break_ties_that_scores_leave(tmp_path: Path) -> None:
    path = own_rows(tmp_path, [[9, 5, 1, 3]])

    def coarse(heard: Heard) -> str:
        if "better" in heard.text:
            from tests.judge_server import truthful

            return truthful(heard)
        return '{"satisfied": {"reason": "", "score": 9}, "preserved": {"reason": "", "score": 9}}'

    with serving(JudgeServer(say=coarse)) as server:
        name = f"openai:m@{server.address}/v1"
        settings = settings_of(tmp_path / "data")
        items = read_labelled(path, settings)
        scored = measure([name], items, tmp_path / "a", Setup(settings))[name]
        paired = measure([name], items, tmp_path / "b", Setup(settings, pairs=6))[name]
    assert (scored["auc"]["mean"], scored["ties"]["mean"]) == (0.5, 1)
    assert (paired["auc"]["mean"], paired["ties"]["mean"]) == (1, 0)
    # Both orders of six pairs.
    assert paired["calls"] == 12


def test_the_command_prints_a_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = own_rows(tmp_path, [[9, 1], [2, 8]])
    with serving() as server:
        name = f"openai:m@{server.address}/v1"
        given = ["judge", "measure", str(path), "--judge", name, "--out", "out"]
        shown = CliRunner().invoke(app, given)
        printed = CliRunner().invoke(app, [*given, "--json"])
    assert shown.exit_code == 0, shown.output
    assert "1.000 [1.000, 1.000]" in shown.output
    assert json.loads(printed.stdout)[name]["auc"]["mean"] == 1


def group(truth: Sequence[float], values: Sequence[float | None]) -> Group:
    return Group(truth, values)


def test_the_measures_by_hand() -> None:
    one = group([3, 2, 1], [0.9, 0.9, None])
    assert statistics.auc(one) == 0.5
    assert statistics.accuracy(one) == 0
    assert statistics.ties(one) == 1
    assert statistics.missing(one) == pytest.approx(1 / 3)
    assert statistics.best_chosen(one) == 0.5
    assert statistics.rank_correlation(one) is None
    assert statistics.auc(group([1, 1], [0.1, 0.2])) is None
    assert statistics.best_chosen(group([1, 1], [0.1, 0.2])) is None
    assert statistics.rank_correlation(group([1, 2, 3], [3, 2, 1])) == -1
    confident = [group([1, 0], [0.95, 0.05]), group([1, 0], [0.95, 0.05])]
    assert statistics.calibration_error(confident) == pytest.approx(0.05)
    assert statistics.calibration_error([group([1, 0], [5.0, 0.0])]) is None
    assert statistics.calibration_error([]) is None
    half = [group([1, 0], [1, 0]), group([1, 0], [0, 1])]
    found = share(half, statistics.auc)
    assert found is not None
    assert (found.mean, found.low, found.high, found.tasks) == (0.5, 0, 1, 2)
    assert share([], statistics.auc) is None
