"""The pipeline: what becomes of trials, scores, masks and failures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, Failure, Noise, SearchPlan, SearchResult, Trial
from eacps.editors import Render
from eacps.errors import CancelledError, SearchError
from eacps.images import encode_png
from eacps.metric_range import MetricRange
from eacps.runner import Device, Progress, batches, potential_range, search
from eacps.scoring import Potential, Scorer
from eacps.scoring.region import RegionScorer
from eacps.settings import load_settings
from tests.doubles import Act, Brightness, BrokenScorer, Painter, brightness

SIZE = (32, 32)


def fail_on(*names: str) -> Act:
    def act(trial: Trial) -> Render:
        if trial.id in names:
            return Render(trial, nfe=1, failure=Failure("editor_nan", "Not a number."))
        return Painter().paint(trial)

    return act


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def device_of(store: ArtifactStore, editor: Painter, *scorers: Scorer) -> Device:
    settings = load_settings(potential="weighted", weights={"pf": 1.0, "cons": 1.0, "region": 0.5})
    judges = scorers or (Brightness(),)
    return Device(editor, judges, Potential.of(settings), store, settings)


def task_of(store: ArtifactStore, **changes: Any) -> EditTask:
    source = store.put(encode_png(Image.new("RGB", SIZE, (9, 9, 9))), "png")
    plan = SearchPlan("eacps", {"k": 4, "m": 2, "k_local": 2}, seed=3, batch_size=3)
    facts: dict[str, Any] = {"plan": plan, **changes}
    return EditTask(source, "make it brighter", **facts)


def run(
    device: Device, task: EditTask, seen: list[Progress] | None = None
) -> tuple[Candidate, ...]:
    return whole(device, task, seen).candidates


def whole(device: Device, task: EditTask, seen: list[Progress] | None = None) -> SearchResult:
    def run_batches(parts: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [candidate for part in parts for candidate in device.run_batch(task, part)]

    on_progress = seen.append if seen is not None else None
    return search(task, run_batches, on_progress=on_progress)


def test_the_best_comes_first_and_everything_was_rendered_once(store: ArtifactStore) -> None:
    editor, seen = Painter(), list[Progress]()
    ranked = run(device_of(store, editor), task_of(store), seen)
    potentials = [one.potential for one in ranked if one.potential is not None]
    assert len(potentials) == len(ranked)
    assert potentials == sorted(potentials, reverse=True)
    assert {candidate.id for candidate in ranked} == {f"c{n}" for n in range(1, 9)}
    assert editor.opened == 1, "prompt and image are encoded once per task"
    assert [(p.finished, p.expected) for p in seen] == [(4, 8), (8, 8)]


def test_the_image_carries_its_recipe(store: ArtifactStore) -> None:
    task = task_of(store)
    best = run(device_of(store, Painter()), task)[0]
    recipe = json.loads(Image.open(io.BytesIO(store.get(best.image or ""))).info["eacps"])
    assert recipe["instruction"] == task.instruction
    assert recipe["trial"]["noise"]["seed"] == best.trial.noise.seed
    assert not {"potential", "scores"} & recipe.keys(), "another judge may see it later"


def test_failed_trials_are_cards_at_the_end_and_the_search_goes_on(store: ArtifactStore) -> None:
    ranked = run(device_of(store, Painter(fail_on("c2", "c5"))), task_of(store))
    assert [candidate.id for candidate in ranked if candidate.failure] == ["c2", "c5"]
    assert {candidate.id for candidate in ranked[-2:]} == {"c2", "c5"}
    assert sum(candidate.nfe for candidate in ranked) == 6 * 3 + 2 * 1


def test_only_a_task_without_any_usable_candidate_fails_and_says_why(store: ArtifactStore) -> None:
    every = fail_on(*(f"c{n}" for n in range(1, 9)))
    with pytest.raises(SearchError, match="Not a number"):
        run(device_of(store, Painter(every)), task_of(store))


def test_an_editor_that_crashes_fails_its_batch_only(store: ArtifactStore) -> None:
    def act(trial: Trial) -> Render:
        if trial.id == "c4":
            raise ZeroDivisionError("of all things")
        return Painter().paint(trial)

    ranked = run(device_of(store, Painter(act)), task_of(store))
    broken = {candidate.id: candidate.failure for candidate in ranked if candidate.failure}
    assert list(broken) == ["c4"], "c4 is a batch of its own here"
    assert "ZeroDivisionError" in broken["c4"].message


def test_a_scorer_that_is_down_leaves_a_note_and_the_rest_ranks(store: ArtifactStore) -> None:
    result = whole(device_of(store, Painter(), Brightness(), BrokenScorer()), task_of(store))
    ranked = result.candidates
    assert all(candidate.potential is not None for candidate in ranked)
    assert "the judge is asleep" in " ".join(result.notes)
    assert not any(candidate.notes for candidate in ranked), "what holds of all is said once"
    brightness = [next(m.value for m in c.metrics if m.name == "pf") for c in ranked]
    assert brightness == sorted(brightness, reverse=True)


class Forgetful(Brightness):
    """A scorer that leaves out the last image of each batch."""

    ranges: Mapping[str, MetricRange] = {"cons": MetricRange(worst=0, best=1)}

    def score(self, *arguments: Any) -> list[dict[str, float]]:
        return [{"cons": row["pf"]} for row in super().score(*arguments)[:-1]]


def test_a_scorer_that_leaves_out_an_image_counts_for_none(store: ArtifactStore) -> None:
    result = whole(device_of(store, Painter(), Brightness(), Forgetful()), task_of(store))
    measured = [{metric.name for metric in one.metrics} for one in result.candidates]
    assert all("pf" in names and "cons" not in names for names in measured)
    assert "cons missing" in " ".join(result.notes)


def test_cancelling_passes_through(store: ArtifactStore) -> None:
    def stop() -> None:
        raise CancelledError("Somebody cancelled it.")

    task = task_of(store)
    with pytest.raises(CancelledError):
        device_of(store, Painter()).run_batch(task, [Trial("c1", Noise(200))], stop)


def test_outside_the_mask_the_source_stays_and_region_sees_what_the_editor_did(
    store: ArtifactStore,
) -> None:
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, 16, 32))
    task = task_of(store, mask=store.put(encode_png(mask), "png"))
    best = run(device_of(store, Painter(), Brightness(), RegionScorer()), task)[0]
    pixels = np.asarray(Image.open(io.BytesIO(store.get(best.image or ""))))
    assert (pixels[:, 16:] == 9).all()
    assert (pixels[:, :8] != 9).any()
    region = next(metric.value for metric in best.metrics if metric.name == "region")
    assert region == pytest.approx(0.5), "half of what the editor changed was asked for"


def test_batches_keep_order_and_size() -> None:
    trials = [Trial(f"c{n}", Noise(n)) for n in range(7)]
    cut = batches(trials, SearchPlan(batch_size=3))
    assert [len(part) for part in cut] == [3, 3, 1]
    assert [trial for part in cut for trial in part] == trials


def test_a_task_may_be_judged_by_a_potential_of_its_own(store: ArtifactStore) -> None:
    device = device_of(store, Painter(), Dimness(), Brightness())
    usual = run(device, task_of(store))
    own = run(device, task_of(store, settings={"weights": {"cons": 1.0}}))
    best, worst = usual[0].trial.noise, usual[-1].trial.noise
    assert best != worst
    assert {metric.name for metric in own[0].metrics if metric.weight} == {"cons"}
    potentials = [each.potential or 0.0 for each in own]
    assert potentials == sorted(potentials, reverse=True)
    assert own[0].metrics[0].value > own[-1].metrics[0].value
    chosen = {"potential": "weighted", "weights": {"cons": 3.0}}
    span = potential_range(load_settings(), task_of(store, settings=chosen))
    assert span == (0.0, 3.0)


class Dimness:
    """A scorer: the darker, the more consistent."""

    ranges: Mapping[str, MetricRange] = {"cons": MetricRange(worst=0.0, best=1.0)}

    def score(
        self, task: EditTask, images: Any, edited: Sequence[Image.Image], progress: Any
    ) -> list[dict[str, float]]:
        return [{"cons": 1 - brightness(image)} for image in edited]
