from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest

from eacps.demo.bears import FIELDS, attributes, parse
from eacps.demo.tasks import demo_tasks, main


def test_the_same_seed_gives_the_same_tasks_and_a_longer_list_only_adds() -> None:
    short, long = demo_tasks(5, seed=7), demo_tasks(9, seed=7)
    assert [task.instruction for task in short] == [task.instruction for task in long[:5]]
    for one, other in zip(short, long, strict=False):
        assert one.image.tobytes() == other.image.tobytes()


def test_another_seed_gives_other_tasks() -> None:
    assert demo_tasks(1, seed=1)[0].image.tobytes() != demo_tasks(1, seed=2)[0].image.tobytes()


def test_no_two_tasks_ask_for_the_same() -> None:
    instructions = [task.instruction for task in demo_tasks(60, seed=7, size=64)]
    assert len(set(instructions)) == 60


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_an_enlarged_picture_shrinks_back_to_exactly_its_scene(size: int) -> None:
    for task in demo_tasks(6, seed=3, size=size):
        assert task.image.size == (size, size)
        small = task.image.reduce(size // 64)
        assert (numpy.asarray(small) == numpy.asarray(task.source)).all()


def test_a_size_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        demo_tasks(1, seed=0, size=100)


def test_the_truth_says_what_must_change_and_what_must_stay() -> None:
    for task in demo_tasks(40, seed=5, size=64):
        after = dict(zip(FIELDS, attributes(task.after), strict=True))
        assert parse(task.instruction) == task.required
        assert task.required.items() <= after.items()
        assert task.kept.items() <= after.items()
        assert not task.required.keys() & task.kept.keys()


def test_the_command_writes_pictures_and_truth(tmp_path: Path) -> None:
    main(["--count", "3", "--seed", "7", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "tasks.json").read_text())
    assert [row["image"] for row in rows] == ["bear-01.png", "bear-02.png", "bear-03.png"]
    assert all((tmp_path / row["image"]).stat().st_size > 0 for row in rows)
