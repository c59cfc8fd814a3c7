"""Routes face_swap and character through the pipeline, on InsightFace's real classes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, SearchPlan, SearchResult, Trial
from eacps.errors import SearchError
from eacps.faces.choices import plan_of
from eacps.faces.identity import IdentityScorer
from eacps.faces.protocol import Pixels
from eacps.images import encode_png
from eacps.runner import Device, expected_trials, potential_of, potential_range, search
from eacps.settings import Settings
from tests.doubles import Brightness, Retoucher
from tests.synthetic_face_models import ALICE, BOB, CAROL, Drawn, Person, picture

SCENE = picture(540, 400, Drawn(BOB, 130, 200, 110), Drawn(CAROL, 400, 200, 150))
BY_BRIGHTNESS: dict[str, Any] = {"potential": "weighted", "weights": {"pf": 1}}
MakeSettings = Callable[..., Settings]

OF_A_BEAR = "Give the bear a red hat."
"""Words that the demo's editor knows."""


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def put(store: ArtifactStore, pixels: Pixels) -> str:
    return store.put(encode_png(Image.fromarray(pixels)), "png")


def portrait(store: ArtifactStore, person: Person) -> str:
    return put(store, picture(256, 256, Drawn(person, 128, 128, 120)))


def task_of(store: ArtifactStore, settings: Settings, **changes: Any) -> EditTask:
    task = EditTask(
        image=put(store, SCENE),
        instruction="Swap the face.",
        route="face_swap",
        references=(portrait(store, ALICE),),
        plan=plan_of(settings),
        fingerprint=settings.fingerprint,
    )
    return replace(task, **changes)


def run(
    store: ArtifactStore, settings: Settings, task: EditTask, editor: Retoucher | None = None
) -> SearchResult:
    potential = potential_of(settings, "edit", with_reference=False)
    device = Device(
        editor or Retoucher(),
        [Brightness(), IdentityScorer(settings, "cpu")],
        potential,
        store,
        settings,
    )

    def run_batches(parts: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [candidate for part in parts for candidate in device.run_batch(task, part)]

    return search(task, run_batches, potential_range=potential_range(settings, task))


def metric(candidate: Candidate, name: str) -> float:
    return next(one.value for one in candidate.metrics if one.name == name)


def opened(store: ArtifactStore, candidate: Candidate) -> Image.Image:
    assert candidate.image is not None
    return Image.open(io.BytesIO(store.get(candidate.image)))


def test_a_face_swap_offers_choices_and_asks_no_editor(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings, editor = synthetic_settings(), Retoucher()
    task = task_of(store, settings)
    result = run(store, settings, task, editor)
    assert editor.started_from == []
    assert result.nfe == 0
    assert "insightface" in result.editor
    # Two boosts x two blends of the largest face, and the other face; shapes are none here.
    assert len(result.candidates) == 5
    assert len(result.candidates) < expected_trials(task)
    assert all(candidate.failure is None for candidate in result.candidates)
    assert 0 < result.share(result.best.potential) <= 1


def test_the_best_swap_shows_the_character_and_says_what_it_is(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings()
    best = run(store, settings, task_of(store, settings)).best
    assert metric(best, "identity") > 0.95 > metric(best, "identity_before")
    info = opened(store, best).info
    told = json.loads(info["eacps"])
    assert told["synthetic"] == "synthetic face"
    assert told["face_engine"] == "insightface"
    assert "swapper.onnx" in told["face_models"]
    assert told["face_providers"] == ["CPUExecutionProvider"]
    assert "compositeSynthetic" in info["XML:com.adobe.xmp"]


def test_a_visible_mark_is_drawn_where_settings_ask_for_it(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    plain, marked = (
        np.asarray(opened(store, run(store, settings, task_of(store, settings)).best), np.int16)
        for settings in (synthetic_settings(), synthetic_settings(face_mark="visible"))
    )
    difference = np.abs(plain - marked).max(axis=2)
    assert difference[370:, :150].max() > 100
    assert difference[:350].max() == 0


def test_what_holds_of_all_swaps_is_said_once(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings()
    result = run(store, settings, task_of(store, settings))
    assert any("2 faces in the scene" in note for note in result.notes)
    assert not any(candidate.notes for candidate in result.candidates)


def test_a_reason_that_stops_every_swap_is_the_tasks_reason(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings()
    empty = put(store, picture(200, 200))
    with pytest.raises(SearchError, match="No face is found in the scene") as caught:
        run(store, settings, task_of(store, settings, image=empty))
    assert caught.value.code == "no_face"


def test_a_missing_licence_stops_the_task_and_not_the_worker(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings(face_license_accepted=False)
    with pytest.raises(SearchError, match="EACPS_FACE_LICENSE_ACCEPTED") as caught:
        run(store, settings, task_of(store, settings))
    assert caught.value.code == "licence_not_accepted"


def character(store: ArtifactStore, settings: Settings, **changes: Any) -> EditTask:
    plan = SearchPlan("best_of_n", {"n": 3}, seed=1)
    return task_of(store, settings, route="character", plan=plan, **changes)


def test_a_characters_search_starts_from_the_swapped_scene(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings, editor = synthetic_settings(), Retoucher()
    result = run(store, settings, character(store, settings), editor)
    (start,) = editor.started_from
    assert np.abs(np.asarray(start, np.int16) - SCENE).max() > 50
    assert len(result.candidates) == 3
    for candidate in result.candidates:
        assert metric(candidate, "identity") > 0.95
        assert metric(candidate, "identity_before") < 0.5
    assert json.loads(opened(store, result.best).info["eacps"])["synthetic"] == "synthetic face"


def test_identity_counts_in_a_characters_potential(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    for weight in (3.0, 0.0):
        settings = synthetic_settings(**BY_BRIGHTNESS, identity_weight=weight)
        best = run(store, settings, character(store, settings)).best
        identity = next(one for one in best.metrics if one.name == "identity")
        assert identity.weight == weight
        assert (identity.contribution > 0) == (weight > 0)


def test_outside_the_mask_a_characters_scene_stays(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings()
    white = np.zeros(SCENE.shape[:2], np.uint8)
    white[80:330, 20:250] = 255
    task = character(store, settings, mask=put(store, white))
    best = np.asarray(opened(store, run(store, settings, task).best))
    assert (best[white == 0] == SCENE[white == 0]).all()
    assert (best[white > 0] != SCENE[white > 0]).any()


def test_a_character_without_a_face_in_the_scene_fails_with_a_sentence(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings()
    task = character(store, settings, image=put(store, picture(200, 200)))
    with pytest.raises(SearchError, match="No face is found"):
        run(store, settings, task)


def test_an_edit_with_a_reference_shows_identity_without_weighing_it(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings()
    task = replace(character(store, settings), route="edit")
    identity = [one for one in run(store, settings, task).best.metrics if one.name == "identity"]
    assert [one.weight for one in identity] == [0]


def test_identity_may_be_weighed_in_edits_and_is_no_matter_without_a_reference(
    store: ArtifactStore, synthetic_settings: MakeSettings
) -> None:
    settings = synthetic_settings(potential="weighted", weights={"pf": 1, "identity": 2})
    with_reference = replace(character(store, settings), route="edit", instruction=OF_A_BEAR)
    best = run(store, settings, with_reference).best
    assert {one.name: one.weight for one in best.metrics}["identity"] == 2
    without = run(store, settings, replace(with_reference, references=()))
    assert "identity" not in {one.name for one in without.best.metrics}
    assert without.notes == ()


@pytest.mark.parametrize("engine_named", ["auto", "insightface"])
def test_an_edit_whose_reference_is_no_face_needs_no_engine(
    store: ArtifactStore, synthetic_settings: MakeSettings, tmp_path: Path, engine_named: str
) -> None:
    settings = synthetic_settings(
        **BY_BRIGHTNESS,
        face_engine=engine_named,
        face_license_accepted=False,
        face_models=tmp_path,
    )
    task = replace(
        character(store, settings),
        route="edit",
        instruction=OF_A_BEAR,
        references=(put(store, picture(64, 64)),),
    )
    result = run(store, settings, task)
    assert result.best.potential is not None
    assert result.notes == ()
