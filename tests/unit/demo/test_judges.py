from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from PIL import Image, ImageFilter

from demo.manifest import PACK
from demo.oracle import Oracle, Verdict, acceptable
from eacps.demo.bears import render
from eacps.demo.tasks import DemoTask, demo_tasks


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tasks() -> list[DemoTask]:
    return demo_tasks(40, seed=11, size=64)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle.load()


def _share(verdicts: Sequence[Verdict]) -> float:
    return sum(verdict.success for verdict in verdicts) / len(verdicts)


def test_the_oracle_accepts_the_right_picture_and_its_equals(
    oracle: Oracle, tasks: list[DemoTask]
) -> None:
    right = [oracle.judge(task, [render(task.after)])[0] for task in tasks]
    equals = [
        verdict
        for task in tasks
        for verdict in oracle.judge(task, [render(scene) for scene in acceptable(task, 4, seed=9)])
    ]
    assert _share(right) >= 0.97
    assert _share(equals) >= 0.95


def test_the_oracle_refuses_the_unedited_picture_and_another_bear(
    oracle: Oracle, tasks: list[DemoTask]
) -> None:
    others = [tasks[-1], *tasks[:-1]]
    unedited = [oracle.judge(task, [task.source])[0] for task in tasks]
    another = [
        oracle.judge(task, [render(other.after)])[0]
        for task, other in zip(tasks, others, strict=True)
    ]
    assert _share(unedited) == 0
    assert _share(another) == 0


def test_the_oracle_refuses_an_edit_that_repaints_the_rest(
    oracle: Oracle, tasks: list[DemoTask]
) -> None:
    task = next(task for task in tasks if "background" not in task.instruction)
    right = render(task.after)
    [good, faded] = oracle.judge(
        task, [right, Image.blend(right, Image.new("RGB", right.size, "gray"), 0.3)]
    )
    assert good.success
    assert not faded.success
    assert faded.score < good.score


def test_a_picture_that_is_blurred_scores_below_a_sharp_one(
    oracle: Oracle, tasks: list[DemoTask]
) -> None:
    for task in tasks[:10]:
        right = render(task.after)
        sharp, blurred = oracle.judge(task, [right, right.filter(ImageFilter.GaussianBlur(2))])
        assert blurred.score < sharp.score


def test_the_shipped_scorer_loads_by_its_folder_and_prefers_the_edited_picture(
    tasks: list[DemoTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import open_clip

    location = f"local-dir:{PACK / 'clip'}"
    model, prepare = open_clip.create_model_from_pretrained(location)
    words = open_clip.get_tokenizer(location)([task.instruction for task in tasks])
    assert words.shape == (len(tasks), 24)
    before = torch.stack([prepare(task.source) for task in tasks])
    after = torch.stack([prepare(render(task.after)) for task in tasks])
    with torch.no_grad():
        asked = model.eval().encode_text(words, normalize=True)
        unedited = (model.encode_image(before, normalize=True) * asked).sum(1)
        edited = (model.encode_image(after, normalize=True) * asked).sum(1)
    assert (edited > unedited).float().mean() >= 0.95
