"""What `eacps run` makes of its input, and what it says when that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eacps.errors import TaskError
from eacps.offline.tasks import one_task, tasks_of_file
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
    lines = ['{"image": "a.png", "prompt": "x"}', "", '{"id": "red hat/1", "image": "b.png"}']
    assert names(written(tmp_path, "\n".join(lines))) == ["task-1", "red-hat-1"]


def test_the_flat_export_of_label_studio_is_read_too(tmp_path: Path) -> None:
    assert names(written(tmp_path, [{"id": 4, "image": "/data/upload/1/a.png"}])) == ["task-4"]


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


@pytest.mark.parametrize("ids", ["x", "9-7", "1-", "-1", "1..3"])
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
    assert one_task(load_settings(), "my bear.png", "add a hat", None).name == "my-bear"
    with pytest.raises(TaskError, match="Correct --image"):
        one_task(load_settings(), "gone.png", "add a hat", None)


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
