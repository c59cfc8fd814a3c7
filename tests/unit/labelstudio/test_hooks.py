from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from eacps.artifacts import open_store
from eacps.domain import Failure, to_json
from eacps.errors import EacpsError, TaskError
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio
from tests.unit.labelstudio.support import make_result, png


def uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def origin(settings: Settings, context: Any = None, **data: Any) -> dict[str, Any]:
    task = {"data": {"image": uri(png()), "prompt": " add a scarf ", **data}}
    content: dict[str, Any] = to_json(origin_of(task, settings, context=context))
    return content


def stored(settings: Settings, name: str | None) -> Image.Image:
    assert name is not None
    return Image.open(io.BytesIO(open_store(settings).get(name)))


def test_a_task_becomes_an_edit_task_with_its_images_stored(plain: Settings) -> None:
    task = LabelStudioHooks(plain).prepare(
        origin(plain, mask=uri(png(20, 15, "white")), reference=uri(png(9, 9)), route="Local edit")
    )
    assert task.instruction == "add a scarf"
    assert task.route == "edit"
    assert "Local edit" in task.route_reason
    assert (task.plan, task.fingerprint) == (plain.plan, plain.fingerprint)
    assert stored(plain, task.image).size == (40, 30)
    assert stored(plain, task.mask).size == (40, 30)
    assert [stored(plain, name).size for name in task.references] == [(9, 9)]


def test_preparing_twice_gives_the_same_key(plain: Settings) -> None:
    hooks = LabelStudioHooks(plain)
    assert hooks.prepare(origin(plain)).key == hooks.prepare(origin(plain)).key


def test_a_drawn_region_is_the_mask(plain: Settings) -> None:
    value = {"x": 50, "y": 0, "width": 50, "height": 100, "rotation": 0}
    region = {"type": "rectanglelabels", "to_name": "img", "value": value}
    task = LabelStudioHooks(plain).prepare(origin(plain, {"result": [region]}))
    mask = np.asarray(stored(plain, task.mask))
    assert mask[:, 25:].min() == 255
    assert mask[:, :15].max() == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"prompt": ""}, "no_instruction"),
        ({"prompt": ["x"]}, "no_instruction"),
        ({"prompt": "x" * 5000}, "bad_instruction"),
        ({"image": None}, "no_image"),
        ({"image": {"url": "x"}}, "no_image"),
        ({"image": "data:,not an image"}, "bad_image"),
        ({"image": uri(png(4, 4))}, "image_too_small"),
        ({"image": "http://169.254.169.254/latest"}, "host_refused"),
        ({"mask": uri(png(40, 30, "black"))}, "empty_mask"),
        ({"mask": 7}, "no_image"),
        ({"reference": "data:,x"}, "bad_image"),
    ],
)
def test_a_bad_task_is_refused_with_a_code_and_a_hint(
    plain: Settings, data: dict[str, Any], code: str
) -> None:
    with pytest.raises(EacpsError) as caught:
        LabelStudioHooks(plain).prepare(origin(plain, **data))
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("field", ["image", "mask", "reference"])
@pytest.mark.parametrize("value", ["data:,x", "http://169.254.169.254/x", "ftp://x/y", 7])
def test_an_error_names_the_field_of_the_image(plain: Settings, field: str, value: Any) -> None:
    with pytest.raises(EacpsError) as caught:
        LabelStudioHooks(plain).prepare(origin(plain, **{field: value}))
    others = {"image", "mask", "reference"} - {field}
    assert field in caught.value.message
    assert not [name for name in others if f"`{name}`" in str(caught.value)]


@pytest.mark.parametrize(("prompt", "kind"), [(42, "a number"), ([], "a list"), ({}, "an object")])
def test_an_instruction_that_is_no_text_is_called_what_it_is(
    plain: Settings, prompt: Any, kind: str
) -> None:
    with pytest.raises(TaskError, match=f"`prompt` contains {kind} instead of a text"):
        LabelStudioHooks(plain).prepare(origin(plain, prompt=prompt))


@pytest.mark.parametrize("broken", [{}, {"data": 3}, {"route": "fly"}])
def test_a_job_that_cannot_be_read_is_a_task_error(plain: Settings, broken: Any) -> None:
    with pytest.raises(TaskError, match="cannot be read") as caught:
        LabelStudioHooks(plain).prepare(broken)
    assert caught.value.code == "bad_task"


def test_results_of_plain_clients_are_delivered_nowhere(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def remember(method: str, path: str) -> None:
        asked.append((method, path))

    with RecordedLabelStudio() as site:
        site.fault = remember
        site.add_task(7, {"image": uri(png()), "prompt": "add a scarf"})
        connected = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(TOKEN),
        )
        hooks = LabelStudioHooks(connected)
        for known in ({}, {"label_studio": site.url}, {"task": 7}):
            theirs = {**origin(connected), "label_studio": "", "task": None, **known}
            hooks.deliver(theirs, make_result())
            hooks.deliver_failure(theirs, Failure("bad_image", "Broken."))
    assert asked == []
