"""Face tasks from an import to a prediction, in a real Label Studio, done by engine `basic`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eacps.demo.faces import FACE_AT_RIGHT, FACE_WITH_CARDS, face_tasks
from eacps.faces.protocol import Face, FaceEngine
from eacps.faces.registry import open_engine
from eacps.faces.selection import cosine
from eacps.labelstudio.cards.contract import PANEL
from eacps.settings import load_settings
from tests.label_studio_server import LabelStudioServer
from tests.patience import PATIENCE
from tests.stack import Backend, bear_tasks, connected_project, uploaded, wait_until

METRICS = {"identity", "identity before", "landmarks", "sharpness", "outside"}
ONE, TWO = face_tasks()
CROWD = TWO.scene
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def engine(face_models: None) -> FaceEngine:
    """Measures what the tasks' images show."""
    return open_engine(load_settings(face_engine="basic", threads=1), "cpu").engine


@pytest.fixture(scope="module")
def tasks(server: LabelStudioServer, backend: Backend, face_models: None) -> dict[str, int]:
    """One project with one task of each kind, all of them done."""
    project = connected_project(server, backend)
    upload = partial(uploaded, server, project)
    one, two = ONE.data(upload), TWO.data(upload)
    bear = bear_tasks(server, project, 1, seed=31)[0]
    crowd = {"image": two["image"], "reference": one["reference"], "route": "face swap"}
    wanted: dict[str, dict[str, Any]] = {
        "one": {"data": one},
        "two": {"data": two},
        "missed": {"data": {**crowd, "mask": upload("table.png", painted((100, 700, 300, 850)))}},
        "nobody": {"data": {"image": one["image"], "prompt": "swap", "route": "face swap"}},
        "drawn": {"data": crowd, "annotations": [{"result": [rectangle(FACE_WITH_CARDS)]}]},
        "character": {
            "data": {
                **one,
                "route": "Character",
                "prompt": "put a red hat on the bear",
                "mask": upload("head.png", painted((130, 90, 270, 260), ONE.scene.size)),
            }
        },
        "edit": {"data": {**bear, "reference": upload("dress.png", Image.new("RGB", (64, 64)))}},
    }
    numbers = dict(zip(wanted, server.import_tasks(project, list(wanted.values())), strict=True))
    wait_until(lambda: all(ended(server, task) for task in numbers.values()), backend.log)
    return numbers


def painted(box: tuple[int, int, int, int], size: tuple[int, int] = CROWD.size) -> Image.Image:
    """A mask that is white in a rectangle."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def rectangle(box: tuple[int, int, int, int]) -> dict[str, Any]:
    """What Label Studio stores when somebody draws a rectangle over the crowd."""
    (width, height), (left, top, right, bottom) = CROWD.size, box
    value = {
        "x": 100 * left / width,
        "y": 100 * top / height,
        "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height,
        "rotation": 0,
        "rectanglelabels": ["Edit here"],
    }
    return {
        "id": "drawn",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "img",
        "original_width": width,
        "original_height": height,
        "value": value,
    }


def ended(server: LabelStudioServer, task: int) -> bool:
    return bool(server.predictions(task) or server.data(task).get("report_md"))


def gallery(server: LabelStudioServer, task: int) -> list[Image.Image]:
    """The candidates' images, best first."""
    contents = [server.response("GET", url).content for url in server.data(task)["gallery"]]
    assert contents, f"task {task} has no candidates"
    return [Image.open(io.BytesIO(content)) for content in contents]


def cards(server: LabelStudioServer, task: int) -> list[dict[str, float]]:
    """The metrics on each card, by name."""
    found = []
    for card in server.data(task)["candidates"]:
        rows = [
            ["".join(cell.itertext()).strip() for cell in row.iter("td")]
            for row in ElementTree.fromstring(card["html"]).iter("tr")
        ]
        found.append({row[0]: float(row[2].replace("\N{MINUS SIGN}", "-")) for row in rows[1:]})
    return found


def only_face(engine: FaceEngine, picture: Image.Image) -> Face:
    """The largest face of a picture, described."""
    image = np.array(picture.convert("RGB"))
    return engine.described(image, engine.detect(image)[0])


def face_at(engine: FaceEngine, picture: Image.Image, box: Sequence[float]) -> Face:
    """The face of a picture that is nearest to the middle of a box, described."""
    image = np.array(picture.convert("RGB"))
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    faces = engine.detect(image)
    distances = [float(np.linalg.norm(np.array(face.centre) - middle)) for face in faces]
    return engine.described(image, faces[int(np.argmin(distances))])


def changed(before: Image.Image, after: Image.Image) -> NDArray[np.bool_]:
    """The pixels that are not the same."""
    one, other = np.array(before.convert("RGB")), np.array(after.convert("RGB"))
    assert one.shape == other.shape
    different: NDArray[np.bool_] = (one != other).any(axis=-1)
    return different


def inside(mask: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(mask) >= 128


def test_a_task_labelled_face_swap_comes_back_with_the_characters_face(
    server: LabelStudioServer, tasks: dict[str, int], engine: FaceEngine
) -> None:
    (prediction,) = server.predictions(tasks["one"])
    assert prediction["result"]
    character = only_face(engine, ONE.characters[0])
    before = cosine(only_face(engine, ONE.scene), character)
    after = cosine(only_face(engine, gallery(server, tasks["one"])[0]), character)
    assert before < engine.same_person <= after


def test_several_ways_to_swap_are_offered_each_with_its_scores_and_without_diffusion(
    server: LabelStudioServer, tasks: dict[str, int]
) -> None:
    for name in ("one", "two", "drawn"):
        shown = cards(server, tasks[name])
        assert len(shown) > 1
        for metrics in shown:
            assert metrics.keys() == METRICS
            assert metrics["identity"] > metrics["identity before"]
        images = {image.tobytes() for image in gallery(server, tasks[name])}
        assert len(images) == len(shown)
    assert "no diffusion" in server.data(tasks["one"])["report_md"]


def test_each_swapped_image_says_that_it_is_synthetic_and_what_made_it(
    server: LabelStudioServer, tasks: dict[str, int], engine: FaceEngine
) -> None:
    for name in ("one", "character"):
        for image in gallery(server, tasks[name]):
            told = " ".join(str(value) for value in image.info.values())
            for words in ("synthetic face", "compositeSynthetic", "basic", *engine.models):
                assert words in told


def test_two_characters_go_to_the_two_faces_that_the_masks_mean(
    server: LabelStudioServer, tasks: dict[str, int], engine: FaceEngine
) -> None:
    best = gallery(server, tasks["two"])[0]
    for picture, mask in zip(TWO.characters, TWO.masks, strict=True):
        character, place = only_face(engine, picture), mask.getbbox()
        assert place
        assert cosine(face_at(engine, CROWD, place), character) < engine.same_person
        assert cosine(face_at(engine, best, place), character) >= engine.same_person
    different = changed(CROWD, best)
    masks = [inside(mask) for mask in TWO.masks]
    assert not (different & ~(masks[0] | masks[1])).any()
    assert all((different & mask).any() for mask in masks)


def test_a_rectangle_drawn_over_one_face_of_six_changes_that_face_and_no_other(
    server: LabelStudioServer, tasks: dict[str, int], engine: FaceEngine
) -> None:
    character = only_face(engine, ONE.characters[0])
    outside = ~inside(painted(FACE_WITH_CARDS))
    for image in gallery(server, tasks["drawn"]):
        assert not (changed(CROWD, image) & outside).any()
    best = gallery(server, tasks["drawn"])[0]
    before, after = (
        cosine(face_at(engine, picture, FACE_WITH_CARDS), character) for picture in (CROWD, best)
    )
    assert before < engine.same_person <= after


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("missed", "6 faces found, none in the mask", "no_face_in_mask"),
        ("nobody", "contains no picture of a character", "no_character"),
    ],
)
def test_a_task_that_cannot_be_done_says_why_while_the_others_go_on(
    server: LabelStudioServer, tasks: dict[str, int], name: str, words: str, code: str
) -> None:
    report = server.data(tasks[name])["report_md"]
    assert words in report
    assert f"({code})" in report
    assert not server.predictions(tasks[name])
    done = tasks.keys() - {"missed", "nobody"}
    assert all(len(server.predictions(tasks[other])) == 1 for other in done)


def test_a_character_is_swapped_in_and_then_healed_with_its_identity_on_every_card(
    server: LabelStudioServer, tasks: dict[str, int], engine: FaceEngine
) -> None:
    task = tasks["character"]
    shown = cards(server, task)
    assert len(shown) > 1
    before = cosine(only_face(engine, ONE.scene), only_face(engine, ONE.characters[0]))
    for metrics in shown:
        assert {"identity", "identity before"} < metrics.keys()
        assert metrics["identity before"] == pytest.approx(before, abs=0.02)
        assert metrics.keys() - METRICS
    head = inside(painted((130, 90, 270, 260), ONE.scene.size))
    for image in gallery(server, task):
        different = changed(ONE.scene, image)
        assert (different & head).sum() > 0.5 * head.sum()
        assert not (different & ~head).any()


def test_an_edit_with_a_reference_that_shows_no_face_is_done_as_ever(
    server: LabelStudioServer, tasks: dict[str, int]
) -> None:
    data = server.data(tasks["edit"])
    shown = cards(server, tasks["edit"])
    assert len(data["gallery"]) == len(shown) == 8
    assert not any("identity" in metrics for metrics in shown)
    assert "face" not in data["report_md"].casefold()


def test_a_face_that_is_drawn_on_the_panel_is_swapped_beside_the_earlier_result(
    server: LabelStudioServer, backend: Backend, tasks: dict[str, int], engine: FaceEngine
) -> None:
    task = tasks["drawn"]
    before = {card["id"]: card for card in server.data(task)["candidates"]}
    value = rectangle(FACE_AT_RIGHT)["value"]
    box = {side: value[side] for side in ("x", "y", "width", "height")}
    body = {"token": "swap-at-right", "action": "face", "shapes": [box], "reference": 0}
    address = f"{backend.url}/panel/{server.data(task)[PANEL]}"
    answer = requests.post(f"{address}/actions", json=body, timeout=PATIENCE).json()
    assert answer["price"]["renders"] == 0
    assert answer["price"]["candidates"] > 1

    def is_done() -> bool:
        jobs = requests.get(f"{address}/state.json", timeout=PATIENCE).json()["jobs"]
        return any(job["id"] == answer["job"] and job["state"] == "done" for job in jobs)

    wait_until(is_done, backend.log)
    after = {card["id"]: card["candidate"] for card in server.data(task)["candidates"]}
    new = [each for name, each in after.items() if name not in before]
    assert after.keys() > before.keys()
    assert all(each["lineage"].endswith("asked for in the panel") for each in new)
    image = gallery(server, task)[0]
    assert not (changed(CROWD, image) & ~inside(painted(FACE_AT_RIGHT))).any()
    character = only_face(engine, ONE.characters[0])
    one, other = (
        cosine(face_at(engine, picture, FACE_AT_RIGHT), character) for picture in (CROWD, image)
    )
    assert one < engine.same_person <= other
