"""The one call that searches in this process, on the demo pack's editor and judges."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eacps import EacpsError, Edits, edit
from eacps.demo.tasks import demo_tasks
from eacps.search.strategies.best_of_n import BestOfN

pytestmark = pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")
FEW: dict[str, Any] = {"strategy": "best_of_n", "strategy_params": {"n": 2}, "steps": 4}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bear() -> Image.Image:
    (task,) = demo_tasks(1, seed=3, size=64)
    return task.source


def test_edits_come_best_first_with_their_images_and_scores(bear: Image.Image) -> None:
    heard: list[Any] = []
    edits = edit(bear, "add a red top hat", **FEW, on_progress=heard.append)
    assert isinstance(edits, Edits)
    assert len(edits) == 2
    assert edits.best is edits[0]
    assert edits[0].potential >= edits[1].potential
    assert {one.id for one in edits} == {"c1", "c2"}
    assert all(one.image.mode == "RGB" and one.scores for one in edits)
    assert edits[0].image.tobytes() != edits[1].image.tobytes()
    # What a notebook shows of it fits on a screen.
    first, *rows = repr(edits).splitlines()
    assert first == "2 edits, best first"
    assert [row.split(":")[0].strip() for row in rows] == [one.id for one in edits]
    assert edits.result.nfe == sum(one.nfe for one in edits) > 0
    assert heard


def test_another_judge_renders_nothing_again(
    bear: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = edit(bear, "add a blue scarf", **FEW)
    from eacps.editors.diffusers.editor import DiffusersSession

    def refuse(*_: Any) -> None:
        raise AssertionError("something is rendered again")

    monkeypatch.setattr(DiffusersSession, "advance", refuse)
    again = edit(bear, "add a blue scarf", **FEW, potential="weighted", weights={"verified": 1})
    assert {one.id: one.image.tobytes() for one in again} == {
        one.id: one.image.tobytes() for one in first
    }
    assert {"verified"} <= again.best.scores.keys()


def test_files_masks_and_references_are_read(bear: Image.Image, tmp_path: Path) -> None:
    bear.save(tmp_path / "bear.png")
    mask = Image.new("L", bear.size, 0)
    mask.paste(255, (0, 0, 64, 32))
    character = Image.new("RGB", (40, 30), "green")
    edits = edit(tmp_path / "bear.png", "add a red top hat", mask=mask, reference=character, **FEW)
    assert len(edits.result.task.references) == 1
    lower = (0, 40, 64, 64)
    kept = edits.best.image.resize(bear.size, Image.Resampling.NEAREST).crop(lower)
    assert kept.tobytes() == bear.crop(lower).tobytes()


class Last(BestOfN):
    """A strategy that a notebook defines."""


def test_a_class_of_this_session_is_a_plugin(
    bear: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "Last", Last, raising=False)
    wanted = {**FEW, "strategy": "__main__:Last"}
    assert len(edit(bear, "add a red top hat", **wanted)) == 2
    with pytest.raises(EacpsError, match="'__main__:Lost' is no class of this session"):
        edit(bear, "add a red top hat", **{**FEW, "strategy": "__main__:Lost"})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"startegy": "eacps"}, "There is no setting startegy. Did you mean strategy?"),
        ({"strategy": "nope"}, "There is no strategy 'nope'"),
        ({"mask": "nowhere.png"}, "The mask nowhere.png cannot be read"),
        ({"editor": "/nowhere"}, "EACPS_EDITOR names a folder that does not exist"),
        ({"device": "cuda:7"}, "This machine has no device 'cuda:7'"),
        ({"route": "face_swap"}, "has no character"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, Any], words: str, bear: Image.Image) -> None:
    with pytest.raises(EacpsError) as caught:
        edit(bear, "add a red top hat", **{**FEW, **wrong})
    assert words in str(caught.value)


def test_an_empty_instruction_is_refused(bear: Image.Image) -> None:
    with pytest.raises(EacpsError, match="The instruction is empty"):
        edit(bear, "  ", **FEW)


def test_a_setting_may_be_named_as_its_variable(bear: Image.Image) -> None:
    edits = edit(bear, "add a red top hat", **FEW, batch_size=1)
    assert len(edits) == 2
    assert edits.result.task.plan.batch_size == 1


def test_weights_rank_without_further_settings_and_are_refused_beside_another_potential(
    bear: Image.Image,
) -> None:
    edits = edit(bear, "add a red top hat", **FEW, weights={"pf": 1})
    assert {metric.name for metric in edits.result.best.metrics if metric.weight} == {"pf"}
    with pytest.raises(EacpsError, match="EACPS_WEIGHTS does nothing"):
        edit(bear, "add a red top hat", **FEW, weights={"pf": 1}, potential="eacps")
