"""Searches that stop some of their trials early, through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, SearchPlan, SearchResult, Trial
from eacps.images import encode_png
from eacps.labelstudio import cards
from eacps.runner import Device, search
from eacps.scoring import Potential
from eacps.settings import load_settings
from tests.doubles import Brightness, SlowPainter

STEPS = 10
SIZE = (16, 16)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


HALVING = SearchPlan(
    "halving", {"n": 8, "rungs": [[0.3, 4], [0.6, 2], [1.0, 1]]}, 3, batch_size=4, steps=STEPS
)


def run(store: ArtifactStore, plan: SearchPlan, devices: Sequence[SlowPainter]) -> SearchResult:
    settings = load_settings(potential="weighted", weights={"pf": 1.0})
    judge = Potential.of(settings)
    workers = [Device(one, [Brightness()], judge, store, settings) for one in devices]
    image = store.put(encode_png(Image.new("RGB", SIZE)), "png")
    task = EditTask(image, "brighter", plan=plan)
    turn = 0

    def run_batches(parts: Sequence[Sequence[Trial]]) -> list[Candidate]:
        nonlocal turn
        finished = []
        for part in parts:
            finished.extend(workers[turn % len(workers)].run_batch(task, part))
            turn += 1
        return finished

    return search(task, run_batches)


def test_survivors_go_on_where_they_stood_even_on_another_device(store: ArtifactStore) -> None:
    devices = [SlowPainter(), SlowPainter()]
    result = run(store, HALVING, devices)
    calls = [call for device in devices for call in device.calls]
    spent = {start for name, start, end in calls if name == result.best.id}
    assert spent == {0, 3, 6}
    assert result.best.nfe == STEPS, "no step is computed twice"
    assert result.nfe == sum(end - start for _, start, end in calls) < 8 * STEPS


def test_what_was_pruned_is_kept_as_a_preview_after_the_finished(store: ArtifactStore) -> None:
    result = run(store, HALVING, [SlowPainter()])
    assert len(result.candidates) == 8
    pruned = [candidate for candidate in result.candidates if candidate.pruned]
    assert (len(pruned), len(result.usable)) == (6, 2)
    assert result.candidates[: len(result.usable)] == result.usable
    assert all(candidate.image and candidate.metrics for candidate in pruned)
    assert not any(candidate.state for candidate in result.candidates), "nobody goes on now"


def test_the_finished_candidate_is_the_one_whose_preview_was_best(store: ArtifactStore) -> None:
    result = run(store, HALVING, [SlowPainter()])
    shades = [candidate.trial.noise.seed % 200 for candidate in result.candidates]
    assert result.best.trial.noise.seed % 200 == max(shades)


def test_a_lost_state_costs_steps_and_nothing_else(store: ArtifactStore) -> None:
    class Forgetful(ArtifactStore):
        def put(self, content: bytes, suffix: str) -> str:
            name = super().put(content, suffix)
            if suffix == "safetensors":
                self._files.rm_file(self._path(name))
            return name

    kept = run(store, HALVING, [SlowPainter()])
    lost = run(Forgetful(store.url), HALVING, [SlowPainter()])
    assert lost.best.id == kept.best.id
    assert lost.best.image == kept.best.image
    assert lost.nfe > kept.nfe


def test_a_card_calls_what_was_stopped_early_by_its_name(store: ArtifactStore) -> None:
    result = run(store, HALVING, [SlowPainter()])
    data = cards.enrichment(result, lambda name: name, job_id="j", model_version="v")
    pruned = next(candidate for candidate in result.candidates if candidate.pruned)
    item = next(item for item in data["candidates"] if item["candidate"]["trial"] == pruned.id)
    assert "not finished" in item["title"]
    assert "Preview" in item["html"]
    assert "Failed" not in item["html"]
    assert f"Stopped at step {pruned.trial.to_step} of {STEPS}" in item["html"]
    assert item["candidate"]["state"] == "pruned"
    assert item["id"] not in data["eacps"]["ranked"]


def test_the_report_says_what_the_strategy_decided(store: ArtifactStore) -> None:
    result = run(store, HALVING, [SlowPainter()])
    assert result.decisions
    assert result.decisions[0] in cards.report(result).replace("&#x27;", "'")


def test_previews_are_compared_so_that_duplicates_can_go(store: ArtifactStore) -> None:
    result = run(store, HALVING, [SlowPainter()])
    names = {metric.name for one in result.candidates if one.pruned for metric in one.metrics}
    assert "nearest_similarity" in names
    assert "nearest_similarity" not in {metric.name for metric in result.best.metrics}


def test_trials_that_go_the_same_way_share_a_batch() -> None:
    from eacps.domain import Noise
    from eacps.runner.loop import Ledger

    ledger = Ledger(STEPS)
    first = [Trial(f"c{n}", Noise(n), to_step=3) for n in range(4)]
    ledger.record(first, [Candidate(trial, state="a.safetensors") for trial in first])
    mixed = [
        Trial("c8", Noise(8), to_step=3),
        Trial("c0", Noise(0), to_step=6),
        Trial("c9", Noise(9), to_step=3),
        Trial("c1", Noise(1), to_step=6),
        Trial("c2", Noise(2)),
    ]
    assert [trial.id for trial in ledger.grouped(mixed)] == ["c0", "c1", "c2", "c8", "c9"]
