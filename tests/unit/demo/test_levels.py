"""Difficulty levels, the sampler that attempts them, and how judges are measured on them."""

from __future__ import annotations

import numpy
import pytest
import torch

from benchmarks.judges import auc, auc_inside
from benchmarks.pack import load_editor
from demo.attempts import Sampler
from demo.manifest import PACK
from eacps.demo.bears import changed_parts
from eacps.demo.tasks import HARD, LEVELS, MEDIUM, EditorSettings, Level


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_the_sets_of_a_level_repeat_grow_and_do_not_overlap(level: Level) -> None:
    shown = [[task.image.tobytes() for task in level.held_in(n, size=64)] for n in (6, 9)]
    assert shown[0] == shown[1][:6]
    kept_back = {task.image.tobytes() for task in level.held_out(9, size=64)}
    assert not kept_back & set(shown[1])
    assert (PACK / level.settings.editor / "model_index.json").is_file()


def test_no_two_levels_hold_out_the_same_tasks() -> None:
    pictures = {task.image.tobytes() for level in LEVELS for task in level.held_out(8, size=64)}
    assert len(pictures) == 8 * len(LEVELS)


def test_the_hard_level_always_asks_for_two_things_and_the_medium_one_for_either() -> None:
    def counts(level: Level) -> set[int]:
        return {len(changed_parts(t.before, t.after)) for t in level.held_in(30, size=64)}

    assert counts(HARD) == {2}
    assert counts(MEDIUM) == {1, 2}


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_sampler_makes_what_the_pipeline_makes(
    guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings, tasks = EditorSettings("editor-early", 4, guidance), MEDIUM.held_in(2, size=64)
    made = Sampler(PACK / settings.editor).attempts(tasks, [5, 6], settings, previews=(0.5,))
    pipeline = load_editor(PACK / settings.editor)
    expected = pipeline(
        [task.instruction for task in tasks],
        image=[task.source for task in tasks],
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
        num_inference_steps=4,
        guidance_scale=guidance,
        image_guidance_scale=1.0,
        output_type="np",
    ).images
    difference = numpy.abs(made.finals / 255 - expected)
    assert difference.max() < 0.01
    [(share, preview)] = made.previews
    assert share == 0.5
    assert 0 < numpy.abs(preview / 255 - expected).mean() < 0.2


def test_a_judge_that_ranks_every_success_first_has_an_auc_of_one_and_a_blind_one_a_half() -> None:
    success = numpy.array([[True, False, False], [True, True, False], [True, True, True]])
    assert auc(success.astype(float).ravel(), success.ravel()) == 1
    assert auc(numpy.zeros(9), success.ravel()) == 0.5
    mean, low, high = auc_inside(success.astype(float), success)
    assert (mean, low, high) == (1, 1, 1)


def test_a_judge_that_only_knows_which_task_is_easy_is_worth_nothing_inside_a_task() -> None:
    success = numpy.array([[True, False, False, False], [True, True, True, False]])
    scores = numpy.array([[0.1] * 4, [0.9] * 4])
    assert auc(scores.ravel(), success.ravel()) > 0.7
    assert auc_inside(scores, success)[0] == 0.5
