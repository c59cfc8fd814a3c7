"""A draft is the whole render in fewer steps, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eacps.domain import Trial
from eacps.errors import EditorError
from tests.unit.editors.editor_cases import images, task, trials
from tests.unit.editors.test_pausing import (
    ONE_OF_EACH_KIND,
    STEPS,
    editor_of,
    same,
    steps_of,
    to,
)

DRAFTED = 3
pytestmark = pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")


@pytest.fixture(scope="module")
def paced(folders: Mapping[str, Path], demo: Any) -> dict[str, Any]:
    return {**{name: editor_of(folder) for name, folder in folders.items()}, "demo": demo}


def drafts(steps: int, *asked: Trial) -> list[Trial]:
    return [replace(trial, to_step=steps, draft=True) for trial in asked]


@pytest.mark.parametrize("name", [kind for kind in ONE_OF_EACH_KIND if kind != "demo"])
def test_a_draft_is_what_an_editor_of_so_few_steps_renders(
    name: str, paced: Any, folders: Any
) -> None:
    session = paced[name].open(task(), images())
    found = session.advance(drafts(DRAFTED, *trials(1, 2)))
    wanted = editor_of(folders[name], steps=DRAFTED).open(task(), images()).advance(trials(1, 2))
    assert all(same(one, other) for one, other in zip(found, wanted, strict=True))
    assert [one.nfe for one in found] == [one.nfe for one in wanted]
    assert not any(one.state or one.notes for one in found)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_after_a_draft_the_noise_is_rendered_in_full_as_if_there_had_been_none(
    name: str, paced: Any
) -> None:
    editor = paced[name]
    whole = editor.open(task(), images()).advance(trials(1, 2))
    session = editor.open(task(), images())
    session.advance(drafts(DRAFTED, *trials(1, 2)))
    again = session.advance(trials(1, 2))
    assert all(same(one, other) for one, other in zip(again, whole, strict=True))
    assert again[0].nfe == whole[0].nfe
    assert not any(one.notes for one in again)


def test_drafts_previews_and_full_renders_go_together(paced: Any) -> None:
    editor = paced["demo"]
    first, second, third = trials(1, 2, 3)
    session = editor.open(task(), images())
    asked = [*drafts(DRAFTED, first), *to(DRAFTED, second), third]
    found = session.advance(asked)
    each = found[2].nfe // steps_of(editor)
    assert [one.nfe // each for one in found] == [DRAFTED, DRAFTED, steps_of(editor)]
    assert [one.state is None for one in found] == [True, False, True]
    # A preview of the same noise after as many steps is another picture.
    (preview,) = editor.open(task(), images()).advance(to(DRAFTED, first))
    assert not same(preview, found[0])


@pytest.mark.parametrize("steps", [0, 1, STEPS, STEPS + 1])
def test_a_draft_takes_two_steps_or_more_and_fewer_than_a_full_render(
    steps: int, folders: Any
) -> None:
    session = editor_of(folders["qwen_edit_plus"]).open(task(), images())
    with pytest.raises(EditorError, match="Draft in 2 to 5 steps"):
        session.advance(drafts(steps, *trials(1)))


def test_an_editor_of_fixed_steps_renders_no_drafts(folders: Any) -> None:
    fixed = {"pipeline_args": {"sigmas": [1.0, 0.7, 0.4]}}
    session = editor_of(folders["qwen_edit_plus"], **fixed).open(task(), images())
    with pytest.raises(EditorError, match="EACPS_PIPELINE_ARGS") as refused:
        session.advance(drafts(2, *trials(1)))
    assert refused.value.code == "cannot_pause"
