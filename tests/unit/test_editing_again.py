"""`refine` with `edits: best` goes on from the best edit's picture instead of the task's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, Noise, Outcome, SearchPlan, Trial, to_json
from eacps.editors import Render
from eacps.editors.protocol import States, Tick, no_tick
from eacps.errors import SearchError
from eacps.images import TaskImages, encode_png
from eacps.runner import Device, search
from eacps.runner.loop import Ledger
from eacps.runner.pictures import picture_key
from eacps.scoring import Potential
from eacps.settings import load_settings
from eacps.testing.strategies import play
from tests.doubles import Brightness

STEP = 40


class Brighter:
    """An editor that makes what it is given a little brighter."""

    name = "brighter"

    def __init__(self) -> None:
        self.begun: list[int] = []

    def open(self, task: EditTask, images: TaskImages) -> Brightening:
        return Brightening(self, images.source)


class Brightening:
    def __init__(self, editor: Brighter, source: Image.Image) -> None:
        self._editor, self._source = editor, source

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> list[Render]:
        grey = self._source.getpixel((0, 0))[0]  # type: ignore[index]
        self._editor.begun += [grey] * len(trials)
        picture = Image.new("RGB", self._source.size, (grey + STEP,) * 3)
        return [Render(trial, nfe=1, image=picture) for trial in trials]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def searched(store: ArtifactStore, **params: object) -> tuple[Brighter, list[Candidate], Device]:
    editor = Brighter()
    settings = load_settings(potential="weighted", weights={"pf": 1.0, "cons": 1.0})
    device = Device(editor, (Brightness(),), Potential.of(settings), store, settings)
    source = store.put(encode_png(Image.new("RGB", (16, 16), (10, 10, 10))), "png")
    given = {"n": 2, "max_steps": 2, "per_step": 2, "lowest": 0.0, "highest": 9.0, **params}
    task = EditTask(source, "make it brighter", plan=SearchPlan("refine", given, seed=3))

    def run_batches(parts: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [candidate for part in parts for candidate in device.run_batch(task, part)]

    result = search(task, run_batches)
    again = run_batches([[one.trial for one in result.candidates]])
    assert [one.image for one in again] == [one.image for one in result.candidates]
    return editor, list(result.candidates), device


def test_each_round_starts_from_the_best_picture_so_far(store: ArtifactStore) -> None:
    editor, candidates, _ = searched(store, edits="best")
    # What is stored is found again: nothing was rendered twice.
    assert editor.begun == [10, 10, 50, 50, 90, 90]
    by_id = {one.id: one for one in candidates}
    for one in candidates:
        parent = by_id.get(one.trial.parent or "")
        assert one.trial.start == (parent.image if parent else "")
    assert by_id["c3"].trial.lineage == "edit of c1"


def test_the_default_edits_the_tasks_picture_each_time(store: ArtifactStore) -> None:
    editor, candidates, _ = searched(store)
    assert set(editor.begun) == {10}
    assert not any(one.trial.again or one.trial.start for one in candidates)


def test_what_no_edit_brings_back_is_begun_anew_from_the_source() -> None:
    def answer(preserved: float) -> list[Trial]:
        scores = {"satisfied": 0.5, "preserved": preserved}
        plan = SearchPlan("refine", {"n": 1, "per_step": 1, "max_steps": 1, "edits": "best"})
        done = play(plan, lambda trial: Outcome(trial, 0.5, scores))
        return [outcome.trial for outcome in done.outcomes]

    assert answer(0.9)[1].again
    assert not answer(0.2)[1].again


def test_the_picture_that_is_edited_is_part_of_what_is_stored_and_only_then(
    store: ArtifactStore,
) -> None:
    plain = Trial("c2", Noise(7), parent="c1")
    assert not {"again", "start"} & to_json(plain).keys()
    task = EditTask("a.png", "make it brighter")
    keys = {picture_key(task, replace(plain, start=start)) for start in ("", "b.png", "c.png")}
    assert len(keys) == 3


def test_a_strategy_cannot_edit_a_picture_that_is_not_there() -> None:
    with pytest.raises(SearchError, match="edits the picture of c1, which has none"):
        Ledger(10).started(Trial("c2", Noise(7), parent="c1", again=True))
