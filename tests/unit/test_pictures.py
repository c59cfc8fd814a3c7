"""No picture is rendered twice: not for another judge, not for another search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eacps.artifacts import ArtifactStore
from eacps.domain import (
    Candidate,
    EditTask,
    Failure,
    Noise,
    SearchPlan,
    SearchResult,
    Trial,
)
from eacps.editors import Render
from eacps.errors import SearchError
from eacps.images import encode_png
from eacps.runner import Device, search
from eacps.runner.pictures import PicturesInMemory, picture_key
from eacps.scoring import Potential
from eacps.settings import Settings
from tests.doubles import Brightness, Painter, SlowPainter

STEPS = 10
HALVING = SearchPlan("halving", {"n": 4, "rungs": [[0.5, 2]]}, 3, batch_size=2, steps=STEPS)
WHOLE = SearchPlan("best_of_n", {"n": 4}, 3, batch_size=2, steps=STEPS)


class Darkness(Brightness):
    """Another judge: darker follows the prompt better."""

    def score(self, *arguments: Any) -> list[dict[str, float]]:
        return [{"pf": 1 - row["pf"]} for row in super().score(*arguments)]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def run(
    store: ArtifactStore,
    pictures: PicturesInMemory,
    editor: Any,
    judge: Any,
    plan: SearchPlan,
    **changes: Any,
) -> SearchResult:
    settings = Settings(_env_file=None, potential="weighted", weights={"pf": 1.0})
    device = Device(editor, [judge], Potential.of(settings), store, settings, pictures=pictures)
    image = store.put(encode_png(Image.new("RGB", (16, 16))), "png")
    task = EditTask(image, "brighter", plan=plan, rendered="an editor", **changes)

    def run_batches(parts: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [one for part in parts for one in device.run_batch(task, part)]

    return search(task, run_batches)


def test_another_judge_sees_the_pictures_that_are_there(store: ArtifactStore) -> None:
    pictures, editor = PicturesInMemory(), SlowPainter(STEPS)
    bright = run(store, pictures, editor, Brightness(), WHOLE)
    rendered = list(editor.calls)
    dark = run(store, pictures, editor, Darkness(), WHOLE, fingerprint="other", judged="other")
    assert editor.calls == rendered, "something was rendered again"
    assert editor.opened == 1, "the task was encoded again"
    assert dark.best.id == bright.usable[-1].id
    assert {one.id: one.image for one in dark.candidates} == {
        one.id: one.image for one in bright.candidates
    }


def test_a_picture_costs_the_same_whether_it_was_there_or_not(store: ArtifactStore) -> None:
    alone = run(store, PicturesInMemory(), SlowPainter(STEPS), Brightness(), HALVING)
    pictures, editor = PicturesInMemory(), SlowPainter(STEPS)
    run(store, pictures, editor, Brightness(), WHOLE)
    calls = len(editor.calls)
    after = run(store, pictures, editor, Brightness(), HALVING)
    again = run(store, pictures, editor, Brightness(), HALVING)
    # What had not been rendered are the four previews; the ends had.
    assert len(editor.calls) == calls + 4
    for result in (after, again):
        assert [(one.id, one.nfe, one.image) for one in result.candidates] == [
            (one.id, one.nfe, one.image) for one in alone.candidates
        ]
        assert result.nfe == alone.nfe == 4 * 5 + 2 * 5


@pytest.mark.parametrize("damage", [None, b"", b"garbled"], ids=["gone", "emptied", "garbled"])
@pytest.mark.parametrize("kind", ["image", "thumbnail", "state"])
def test_a_lost_file_costs_a_render_and_nothing_else(
    store: ArtifactStore, kind: str, damage: bytes | None
) -> None:
    pictures, editor = PicturesInMemory(), SlowPainter(STEPS)
    first = run(store, pictures, editor, Brightness(), HALVING)
    lost = next(
        getattr(picture, kind)
        for picture in pictures.known(pictures._pictures).values()
        if getattr(picture, kind)
    )
    path = Path(store.url.removeprefix("file://")) / lost[:2] / lost
    path.unlink() if damage is None else path.write_bytes(damage)
    calls = len(editor.calls)
    again = run(store, pictures, editor, Brightness(), HALVING)
    assert 1 <= len(editor.calls) - calls <= 2
    assert [one.image for one in again.candidates] == [one.image for one in first.candidates]
    assert again.nfe == first.nfe


@pytest.mark.parametrize(
    "changes",
    [
        {"rendered": "another editor"},
        {"instruction": "darker"},
        {"mask": True},
        {"route": "character"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_a_picture_follows_from_is_in_its_key(
    store: ArtifactStore, changes: dict[str, Any]
) -> None:
    task = EditTask("a.png", "brighter", rendered="an editor")
    if "mask" in changes:
        changes = {"mask": "b.png"}
    trial = Trial("c1", Noise(1))
    assert picture_key(replace(task, **changes), trial) != picture_key(task, trial)
    assert picture_key(task, replace(trial, to_step=3)) != picture_key(task, trial)
    assert picture_key(task, replace(trial, instruction_suffix="x")) != picture_key(task, trial)
    assert picture_key(task, replace(trial, id="c9", round=7, parent="c2")) == picture_key(
        task, trial
    )
    judged = replace(task, judged="other", fingerprint="other", model_version="other")
    assert picture_key(judged, trial) == picture_key(task, trial)


def test_failures_are_not_remembered(store: ArtifactStore) -> None:
    def failing(trial: Trial) -> Render:
        return Render(trial, nfe=1, failure=Failure("editor_nan", "Not a number."))

    pictures = PicturesInMemory()
    with pytest.raises(SearchError, match="Not a number"):
        run(store, pictures, Painter(failing), Brightness(), WHOLE)
    assert run(store, pictures, Painter(), Brightness(), WHOLE).usable
