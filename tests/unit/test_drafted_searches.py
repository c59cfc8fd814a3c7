"""The strategy `draft` through the pipeline: what is stored, counted and shown."""

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
    Outcome,
    SearchPlan,
    SearchResult,
    Trial,
    to_json,
)
from eacps.editors import Render
from eacps.editors.protocol import States, Tick, no_tick
from eacps.images import TaskImages, encode_png
from eacps.runner import Device, search
from eacps.runner.pictures import picture_key
from eacps.scoring import Potential
from eacps.search.registry import create
from eacps.settings import load_settings
from tests.doubles import Brightness

STEPS = 10


class Sketching:
    """An editor whose picture depends on the noise and on the number of steps."""

    name = "sketching"

    def __init__(self) -> None:
        self.rendered: list[tuple[str, int | None]] = []

    def open(self, task: EditTask, images: TaskImages) -> Sketching:
        return self

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> list[Render]:
        return [self._render(trial) for trial in trials]

    def _render(self, trial: Trial) -> Render:
        steps = trial.to_step or STEPS
        self.rendered.append((trial.id, trial.to_step))
        grey = trial.noise.seed % 200 + 5 * steps
        return Render(trial, nfe=steps, image=Image.new("RGB", (16, 16), (grey, grey, grey)))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def searched(
    store: ArtifactStore, editor: Sketching, times: int = 1, **params: Any
) -> SearchResult:
    """The last of some searches of one task on one device."""
    settings = load_settings(potential="weighted", weights={"pf": 1.0, "cons": 1.0})
    device = Device(editor, (Brightness(),), Potential.of(settings), store, settings)
    source = store.put(encode_png(Image.new("RGB", (16, 16), (9, 9, 9))), "png")
    plan = SearchPlan("draft", params, seed=3, batch_size=3, steps=STEPS)
    task = EditTask(source, "make it brighter", plan=plan)

    def run_batches(parts: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [candidate for part in parts for candidate in device.run_batch(task, part)]

    results = [search(task, run_batches) for _ in range(times)]
    return results[-1]


def test_the_best_drafts_are_rendered_in_full_and_the_rest_are_shown_without_a_rank(
    store: ArtifactStore,
) -> None:
    editor = Sketching()
    result = searched(store, editor, n=6, finish=2)
    assert len(editor.rendered) == 6 + 2
    full = [one for one in result.candidates if one.trial.to_step is None]
    left = [one for one in result.candidates if one.pruned]
    assert (len(full), len(left)) == (2, 4)
    assert result.best in full
    assert [one.nfe for one in full] == [3 + STEPS] * 2
    assert {one.failure.message for one in left if one.failure} == {
        "Drafted in 3 of 10 steps: others looked better."
    }
    assert all(one.image and one.trial.draft for one in left)
    # The best drafts by the judge are those that were rendered in full.
    drafted = sorted(task_seed(one) for one in result.candidates)[-2:]
    assert sorted(task_seed(one) for one in full) == drafted


def test_what_is_stored_is_not_rendered_again(store: ArtifactStore) -> None:
    editor = Sketching()
    result = searched(store, editor, times=2, n=6, finish=2)
    assert len(editor.rendered) == 6 + 2
    assert result.nfe == 6 * 3 + 2 * STEPS


class Failing(Sketching):
    """Drafts succeed, whole renders do not."""

    def _render(self, trial: Trial) -> Render:
        if trial.to_step is None:
            return Render(trial, nfe=0, failure=Failure("out_of_memory", "The device is full."))
        return super()._render(trial)


@pytest.mark.parametrize(
    ("editor", "params", "note"),
    [
        (Failing(), {"finish": 2}, "are rendered in full"),
        (
            Sketching(),
            {"good": 0.01, "lowest": 0.0, "highest": 9.0},
            "Nothing was rendered in full",
        ),
    ],
)
def test_drafts_are_results_where_nothing_is_rendered_in_full(
    store: ArtifactStore, editor: Sketching, params: dict[str, Any], note: str
) -> None:
    result = searched(store, editor, n=5, **params)
    drafts = [one for one in result.candidates if one.trial.draft]
    assert drafts
    assert result.best in drafts
    assert all(one.outcome.usable and not one.pruned for one in drafts)
    assert result.best.trial.lineage == "global, drafted in 3 steps"
    assert any(note in line for line in result.decisions)


def test_near_duplicates_of_better_drafts_are_not_rendered_in_full() -> None:
    search = create(
        SearchPlan(
            "draft", {"n": 4, "finish": 2, "duplicate_similarity": 0.96}, seed=3, steps=STEPS
        )
    )
    drafts = search.ask()
    alike = {"c2": 0.99, "c3": 0.5, "c4": 0.9}
    search.tell(
        [
            Outcome(one, 9.0 - place, {"nearest_similarity": alike[one.id]} if place else {})
            for place, one in enumerate(drafts)
        ]
    )
    assert [one.id for one in search.ask()] == ["c1", "c3"]
    assert "Left out as near-duplicates of better previews: c2." in search.notes


def task_seed(candidate: Candidate) -> int:
    return candidate.trial.noise.seed % 200


def test_a_draft_is_stored_apart_from_a_preview_and_from_the_whole() -> None:
    task = EditTask("a.png", "make it brighter")
    whole = Trial("c1", Noise(7))
    preview = replace(whole, to_step=3)
    keys = {picture_key(task, one) for one in (whole, preview, replace(preview, draft=True))}
    assert len(keys) == 3
    assert "draft" not in to_json(preview)
