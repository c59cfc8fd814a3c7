"""What `eacps run` makes of its input, and what it says when that is wrong."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eacps.errors import TaskError
from eacps.offline import naming
from eacps.offline.naming import has_report, settled
from eacps.offline.single import SingleTask
from eacps.offline.tasks import one_task, tasks_of_file, with_route
from eacps.settings import load_settings

Eacps = Any


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "tasks.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def names(path: Path, task_ids: str = "") -> list[str]:
    return [task.name for task in tasks_of_file(load_settings(), path, task_ids)]


EXPORT = [{"id": n, "data": {"image": "a.png", "prompt": "x"}} for n in (3, 5, 8, 13)]


def test_json_lines_are_numbered_or_named_by_their_id(tmp_path: Path) -> None:
    lines = ['{"image": "a.png", "prompt": "x"}', "", '{"id": "red-hat_1", "image": "b.png"}']
    assert names(written(tmp_path, "\n".join(lines))) == ["task-1", "red-hat_1"]


IDS = [
    *("a", "A", "a.json", "a.json.json", "a.png", "a.jsonl", "a b", "a-b", "a/b", "a\\b", "a\0b"),
    *("..", ".", "...", "../a", "../../etc/passwd", "/etc/passwd", "~", "~a", "-a", " ", "  "),
    *("a~0123456789ab", "\x1b[31ma", "a\n", "a\r", "\ud800", "\\ud800", "\udfff", "熊", "猫", "é"),
    *("x" * 60, "x" * 61, "x" * 5000, "x" * 5001, "task-1", "TASK-1", "task-2~", "tt-scale-flux"),
    *("TT-Scale-Flux", ".eacps", "eacps", "collage.png", "faceswap.jsonl", "con", "CON", "nul.txt"),
    *("lpt1", "best.png", "a.", "a..", ".a", "a.part", ".a.part", "\u202ea", "a\u0301", "\xe1"),
]


def test_every_id_has_a_place_of_its_own_in_the_folder(tmp_path: Path) -> None:
    entries: list[Any] = [{"id": each, "image": "a.png"} for each in (*IDS, 1, 10**100, -1)]
    found = names(written(tmp_path, entries))
    # Each name stands for NAME, NAME.json and NAME.png.
    files = [f"{name}{suffix}" for name in found for suffix in ("", ".json", ".png")]
    taken = [".eacps", "tt-scale-flux", "faceswap.jsonl", "collage.png"]
    assert len(set(files + taken)) == len(files + taken)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(~[0-9a-f]{12})?", name) for name in found)
    assert max(len(file) for file in files) < 100
    assert names(written(tmp_path, list(reversed(entries)))) == list(reversed(found))
    assert found[0] == "a"


def test_ids_that_differ_only_in_capitals_are_told_apart_where_files_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "_is_case_blind", lambda _folder: True)
    path = written(tmp_path, [{"id": each, "image": "a.png"} for each in (*IDS, 1)])
    settings = load_settings()
    found = [
        task.name for task in settled(tmp_path, tasks_of_file(settings, path, ""), lambda _: False)
    ]
    assert len({name.lower() for name in found}) == len(found)


def test_a_result_of_an_earlier_version_keeps_the_name_that_it_had(tmp_path: Path) -> None:
    settings = load_settings()
    path = written(tmp_path, [{"id": "red hat/1", "image": "a.png"}])
    [task] = tasks_of_file(settings, path, "")
    assert task.name.startswith("red-hat-1~")
    report = {"name": "red-hat-1", "id": "red hat/1", "job": "0123-red-hat-1", "best": "c1",
              "data": {"image": task.content["data"]["image"]}}  # fmt: skip
    (tmp_path / "red-hat-1.json").write_text(json.dumps(report))
    has_result = partial(has_report, settings, tmp_path)
    assert [each.name for each in settled(tmp_path, [task], has_result)] == ["red-hat-1"]
    (tmp_path / "red-hat-1.json").write_text(json.dumps({**report, "id": "red-hat-1"}))
    assert settled(tmp_path, [task], has_result) == [task]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"image": "a.png", "prompt": "\\ud800"}', "Entry 1 contains half a character"),
        ("[" * 100_000, "line 1 is not JSON: it is nested too deeply"),
        ('{"id": ' + "9" * 10_000 + "}", "line 1 is not JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_a_sentence(
    eacps: Eacps, tmp_path: Path, content: str, words: str
) -> None:
    path = written(tmp_path, content)
    shown = eacps("run", "--from-file", str(path), "--out", "results")
    assert shown.code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("depth", range(100, 1100, 50))
def test_a_value_that_is_nested_deeply_is_taken_or_refused(tmp_path: Path, depth: int) -> None:
    path = written(tmp_path, f'{{"image": "a.png", "x": {"[" * depth}{"]" * depth}}}')
    with suppress(TaskError):
        assert names(path) == ["task-1"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [("5", [5]), ("13, 3", [13, 3]), ("4-9", [5, 8]), ("1-999999999999", [3, 5, 8, 13])],
)
def test_task_ids_choose(tmp_path: Path, ids: str, expected: list[int]) -> None:
    assert names(written(tmp_path, EXPORT), ids) == [f"task-{n}" for n in expected]


@pytest.mark.parametrize("ids", ["4", "6-7", "3,99"])
def test_an_id_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, ids: str) -> None:
    with pytest.raises(TaskError, match="It has: 3, 5, 8, 13"):
        names(written(tmp_path, EXPORT), ids)


@pytest.mark.parametrize("ids", ["x", "9-7", "1-", "-1", "1..3", "9" * 5000])
def test_ids_that_are_no_numbers_are_refused(tmp_path: Path, ids: str) -> None:
    with pytest.raises(TaskError, match="--task-ids"):
        names(written(tmp_path, EXPORT), ids)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"image": "a.png"}\n{oops', "line 2 is not JSON"),
        ("[1, 2]", "Entry 1 is not a task"),
        ("[]", "contains no tasks"),
        ("", "contains no tasks"),
        ('[{"id": 1}, {"id": 1}]', "two tasks named task-1"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        names(written(tmp_path, content))


def test_paths_are_relative_to_the_file_and_addresses_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    addresses = ["a.png", "https://host/a.png", "/data/upload/1/a.png", "data:image/png;base64,x"]
    path = written(folder, [{"image": address} for address in addresses])
    found = [task.content["data"]["image"] for task in tasks_of_file(load_settings(), path, "")]
    assert found == [f"file://{folder}/a.png", *addresses[1:]]


def test_a_data_folder_of_this_machine_is_not_taken_for_label_studio(tmp_path: Path) -> None:
    path = written(tmp_path, [{"image": "/data/photos/a.png"}])
    [task] = tasks_of_file(load_settings(), path, "")
    assert task.content["data"]["image"] == "file:///data/photos/a.png"


def test_one_image_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "my bear.png").write_bytes(b"")
    assert one_task(load_settings(), SingleTask("my bear.png", "add a hat")).name == "my-bear"
    with pytest.raises(TaskError, match="Correct --image"):
        one_task(load_settings(), SingleTask("gone.png", "add a hat"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --image"),
        (("--image", "a.png", "--from-file", "b.json"), "either --image"),
        (("--image", "a.png"), "Add --prompt"),
        (("--image", "a.png", "--prompt", "x", "--task-ids", "1"), "--from-file"),
        (("--from-file", "b.json", "--prompt", "x"), "cannot be combined with --from-file"),
        (("--from-file", "b.json"), "No such file"),
        (("--image", "gone.png", "--prompt", "x"), "There is no file"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_nothing_is_written(
    eacps: Eacps, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    shown = eacps("run", "--out", "results", *arguments)
    assert shown.code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_gpu_that_is_not_there_stops_at_once(
    eacps: Eacps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    shown = eacps("run", "--image", "a.png", "--prompt", "x", "--out", "r", "--devices", "cuda:7")
    assert shown.code == 2
    assert "There is no cuda:7" in shown.err
    assert not (tmp_path / "r").exists()


def test_all_inputs_of_a_single_image_are_options(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("team.png", "hero.png", "head.png"):
        (tmp_path / name).touch()
    settings = load_settings()
    single = SingleTask("team.png", "", "head.png", ("hero.png", "https://x.example/2.png"))
    task = with_route(settings, one_task(settings, single), "face_swap")
    assert task.content["data"] == {
        "image": f"file://{tmp_path}/team.png",
        "mask": f"file://{tmp_path}/head.png",
        "reference": [f"file://{tmp_path}/hero.png", "https://x.example/2.png"],
        "route": "face_swap",
    }
    with pytest.raises(TaskError, match="Correct --mask"):
        one_task(settings, replace(single, mask="no.png"))
    with pytest.raises(TaskError, match="Correct --reference"):
        one_task(settings, replace(single, references=("no",)))
    with pytest.raises(
        TaskError, match=r"--route 'swop' is no route\. Use one of: edit, face_swap"
    ):
        with_route(settings, task, "swop")


_COLUMNS = "annotation_id,annotator,eacps,id,image,lead_time,prompt,verdict"
_FIELDS = '"{""ranked"": [""c1""]}",7,/data/upload/1/a.png,3.2,"add a hat, please"'
EXPORTED = f'{_COLUMNS}\n1,1,{_FIELDS},accept\n2,2,{_FIELDS},none\n,,,8,b.png,,"two\nlines",\n'


def test_tables_are_read_as_label_studio_exports_them(tmp_path: Path) -> None:
    path = tmp_path / "project.csv"
    path.write_text("\ufeff" + EXPORTED, encoding="utf-8")
    first, second = tasks_of_file(load_settings(), path, "")
    assert (first.name, second.name) == ("task-7", "task-8")
    assert first.content["data"]["image"] == "/data/upload/1/a.png"
    assert first.content["data"]["prompt"] == "add a hat, please"
    assert first.content["data"]["eacps"] == {"ranked": ["c1"]}
    assert second.content["data"] == {
        "id": 8, "image": f"file://{tmp_path}/b.png", "prompt": "two\nlines",
    }  # fmt: skip
    assert names(path, "8") == ["task-8"]


def test_a_table_may_have_ids_of_its_own_and_tabs(tmp_path: Path) -> None:
    path = tmp_path / "tasks.TSV"
    path.write_text("id\timage\tprompt\nhat\ta.png\tadd a hat\n007\tb.png\tx\n")
    assert [task.name for task in tasks_of_file(load_settings(), path, "")] == ["hat", "007"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "image,prompt\na.png,add a hat, please\n",
            "line 2 has more values than there are columns",
        ),
        ("image,image\na,b\n", "two columns named 'image'"),
        ("image,prompt\n", "contains no tasks"),
        ("", "contains no tasks"),
        ('image,prompt\n"a.png,x', "contains no instruction|cannot be read|no tasks|Entry"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text(content)
    if "Entry" in words:
        # An open quote swallows the rest, which is then the picture's name.
        assert len(tasks_of_file(load_settings(), path, "")) == 1
        return
    with pytest.raises(TaskError, match=words):
        tasks_of_file(load_settings(), path, "")
