"""Face tasks as Label Studio sends them, and the cards that come back."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eacps.artifacts import open_store
from eacps.domain import Candidate, EditTask, Metric, Noise, SearchPlan, SearchResult, Swap, Trial
from eacps.errors import EacpsError, FetchError
from eacps.labelstudio import cards
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.tasks.fetch import require_allowed_reference
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.unit.labelstudio.support import make_result, png


def uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


SCENE, FACE, OTHER = uri(png()), uri(png(9, 9, "blue")), uri(png(11, 11, "green"))


def prepared(settings: Settings, context: Any = None, **data: Any) -> EditTask:
    task = {"data": {"image": SCENE, "route": "Face swap", "reference": FACE, **data}}
    origin = origin_of(task, settings, context=context)
    from eacps.domain import to_json

    return LabelStudioHooks(settings).prepare(to_json(origin))


def rectangle(x: float, width: float) -> dict[str, Any]:
    value = {"x": x, "y": 0, "width": width, "height": 100, "rotation": 0}
    return {"type": "rectanglelabels", "to_name": "img", "value": value}


def mask(settings: Settings, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(open_store(settings).get(name))))


def test_a_face_swap_needs_no_instruction(plain: Settings) -> None:
    task = prepared(plain)
    assert task.route == "face_swap"
    assert task.instruction
    assert len(task.references) == 1
    assert task.plan.strategy == "choices"
    assert task.model_version == plain.model_version


def test_a_character_needs_one(plain: Settings) -> None:
    with pytest.raises(EacpsError) as caught:
        prepared(plain, route="Character")
    assert caught.value.code == "no_instruction"
    task = prepared(plain, route="Character", prompt="heal the seam")
    assert task.plan == plain.plan


def test_several_characters_come_as_a_list(plain: Settings) -> None:
    task = prepared(plain, reference=[FACE, OTHER])
    sizes = [mask(plain, name).shape[0] for name in task.references]
    assert sizes == [9, 11]


def test_drawn_regions_become_one_mask_per_character_and_their_union(plain: Settings) -> None:
    drawn = {"result": [rectangle(50, 25), rectangle(0, 25)]}
    task = prepared(plain, drawn, reference=[FACE, OTHER])
    right, left = (mask(plain, name) for name in task.regions)
    assert right[:, 25].min() == 255 > right[:, 5].max() == 0
    assert left[:, 5].min() == 255 > left[:, 25].max() == 0
    assert task.mask is not None
    assert (mask(plain, task.mask) == np.maximum(left, right)).all()


def test_one_character_keeps_regions_as_one_mask(plain: Settings) -> None:
    assert prepared(plain, {"result": [rectangle(50, 25), rectangle(0, 25)]}).regions == ()


def test_mask_images_may_come_as_a_list_too(plain: Settings) -> None:
    white = uri(png(40, 30, "white"))
    assert len(prepared(plain, reference=[FACE, OTHER], mask=[white, white]).regions) == 2


def test_a_task_may_name_its_own_mapping(plain: Settings) -> None:
    task = prepared(plain, reference=[FACE, OTHER], face_mapping="similarity")
    assert task.mapping == "similarity"
    assert task.key != prepared(plain, reference=[FACE, OTHER]).key


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"reference": ""}, "no_character"),
        ({"reference": []}, "no_character"),
        ({"reference": None}, "no_character"),
        ({"reference": {"url": "x"}}, "no_image"),
        ({"reference": [FACE, 7]}, "no_image"),
        ({"reference": [FACE] * 9}, "bad_task"),
        ({"reference": "data:,x"}, "bad_image"),
        ({"reference": [FACE, OTHER], "face_mapping": "magic"}, "bad_mapping"),
        ({"mask": uri(png(40, 30, "black"))}, "empty_mask"),
    ],
)
def test_a_bad_face_task_is_refused_with_a_code_and_a_hint(
    plain: Settings, data: dict[str, Any], code: str
) -> None:
    with pytest.raises(EacpsError) as caught:
        prepared(plain, **data)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://consented.example/anna.png", True),
        ("https://CONSENTED.example/anna.png", True),
        ("https://cdn.pictures.example/anna.png", True),
        ("https://elsewhere.example/anna.png", False),
        ("https://consented.example.evil.example/anna.png", False),
        ("//consented.example/anna.png", False),
        ("/data/upload/1/anna.png", False),
        (FACE, False),
        ("s3://bucket/anna.png", False),
        (None, False),
    ],
)
def test_characters_come_only_from_hosts_that_settings_list(
    settings: Settings, address: Any, allowed: bool
) -> None:
    listed = settings.model_copy(
        update={"reference_hosts": ("consented.example", "*.pictures.example")}
    )
    if allowed:
        require_allowed_reference(address, listed)
        return
    with pytest.raises(FetchError, match="may not come from") as caught:
        require_allowed_reference(address, listed)
    assert caught.value.code == "reference_refused"
    assert "EACPS_REFERENCE_HOSTS" in caught.value.hint


def test_a_character_behind_another_hosts_name_is_no_valid_address(settings: Settings) -> None:
    listed = settings.model_copy(update={"reference_hosts": ("consented.example",)})
    with pytest.raises(FetchError, match="not a valid URL"):
        require_allowed_reference("https://consented.example@evil.example/anna.png", listed)


def test_label_studios_own_uploads_may_be_listed_by_its_host(settings: Settings) -> None:
    listed = settings.model_copy(update={"reference_hosts": ("label-studio.example",)})
    require_allowed_reference("/data/upload/1/anna.png", listed)


def test_a_refused_character_fails_before_anything_is_fetched(plain: Settings) -> None:
    listed = plain.model_copy(update={"reference_hosts": ("consented.example",)})
    with pytest.raises(EacpsError) as caught:
        prepared(listed)
    assert caught.value.code == "reference_refused"


def swap_result() -> SearchResult:
    candidate = Candidate(
        Trial("c1", Noise(0), swap=Swap(blend=0.8)),
        image=f"{1:040x}.png",
        thumbnail=f"{1:040x}.jpg",
        metrics=(
            Metric("identity", 0.55, 0.7, 1.0, 0.7),
            Metric("identity_before", 0.08, 0.1, 0.0, 0.0),
        ),
        potential=0.7,
        detail="face 2 of 3 from the left; blend 80%",
        editor="basic (yunet.onnx)",
    )
    base = make_result(1)
    task = replace(base.task, route="face_swap", references=("a.png",), plan=SearchPlan("choices"))
    return replace(base, task=task, candidates=(candidate,), nfe=0, editor=candidate.editor)


def enriched(result: SearchResult) -> dict[str, Any]:
    return cards.enrichment(
        result,
        lambda name: f"http://backend/{name}",
        job_id="j",
        model_version="v",
        references=["http://backend/anna.jpg"],
    )


def test_a_swaps_card_names_the_face_and_neither_seed_nor_nfe() -> None:
    data = enriched(swap_result())
    card = data["candidates"][0]["html"]
    assert "face 2 of 3 from the left; blend 80%" in card
    assert card.count("identity before") == 1
    assert card.index(">identity<") < card.index("identity before")
    assert "seed" not in card
    assert "NFE" not in card


def test_the_report_shows_the_character_beside_engine_and_route() -> None:
    report = enriched(swap_result())["report_md"]
    assert "<img src='http://backend/anna.jpg'" in report
    assert "Character" in report
    assert "Route <b>Face swap</b>" in report
    assert "engine basic" in report
    assert "Made with basic (yunet.onnx)" in report, "below the table"
    assert "choices" not in report, "an internal word"


def test_an_edits_reference_is_called_that() -> None:
    report = enriched(make_result())["report_md"]
    assert ">Reference<" in report
