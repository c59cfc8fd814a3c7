"""Selection of faces, the swapped scene, and notes for reviewers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eacps.domain import EditTask, Swap
from eacps.errors import FaceError
from eacps.faces.protocol import FaceEngine
from eacps.faces.session import Swapped, SwapSession
from eacps.images import ImageLimits, TaskImages, decode, encode_png
from tests.synthetic_face_models import ALICE, BOB, CAROL, Drawn, Person, picture

LEFT, RIGHT = Drawn(BOB, 130, 200, 110), Drawn(CAROL, 400, 200, 110)


def image(*faces: Drawn, width: int = 540, height: int = 400) -> Image.Image:
    return Image.fromarray(picture(width, height, *faces))


def portrait(person: Person) -> Image.Image:
    return image(Drawn(person, 128, 128, 120), width=256, height=256)


def mask(
    x: int, y: int, width: int, height: int, size: tuple[int, int] = (540, 400)
) -> Image.Image:
    white = Image.new("L", size, 0)
    white.paste(255, (x, y, x + width, y + height))
    return white


def session(
    engine: FaceEngine,
    scene: Image.Image,
    *people: Person,
    meant: Image.Image | None = None,
    regions: Sequence[Image.Image] = (),
    **task: Any,
) -> SwapSession:
    references = tuple(map(portrait, people))
    images = TaskImages(scene, meant, references, tuple(regions))
    return SwapSession(engine, EditTask("scene", "Swap.", route="face_swap", **task), images)


def swapped(engine: FaceEngine, *args: Any, recipe: Swap | None = None, **more: Any) -> Swapped:
    result = session(engine, *args, **more).swap(recipe or Swap())
    assert result is not None
    return result


def change(before: Image.Image, after: Image.Image) -> NDArray[np.int16]:
    difference: NDArray[np.int16] = np.asarray(before, np.int16) - np.asarray(after, np.int16)
    largest: NDArray[np.int16] = np.abs(difference).max(axis=2)
    return largest


def refusal(engine: FaceEngine, *args: Any, **more: Any) -> FaceError:
    with pytest.raises(FaceError) as caught:
        session(engine, *args, **more).swap(Swap())
    assert caught.value.hint, "it says what to change"
    return caught.value


def test_the_face_becomes_the_characters_and_the_scores_show_it(engine: FaceEngine) -> None:
    result = swapped(engine, image(LEFT), ALICE)
    assert result.scores["identity"] > 0.95
    assert result.scores["identity_before"] < 0.5
    assert result.scores["landmarks"] < 0.1
    assert result.scores["outside"] < 0.05
    assert result.detail.startswith("the only face")


def test_only_the_face_that_the_mask_means_changes(engine: FaceEngine) -> None:
    scene = image(LEFT, RIGHT)
    meant = mask(320, 110, 160, 180)
    result = swapped(engine, scene, ALICE, meant=meant)
    changed = change(scene, result.image)
    assert changed[np.asarray(meant) == 0].max() == 0
    assert changed[np.asarray(meant) > 0].max() > 50
    assert result.notes == (), "the mask leaves no doubt"


def test_a_small_face_in_a_large_scene_is_found_through_its_mask(engine: FaceEngine) -> None:
    scene = image(Drawn(BOB, 3000, 2000, 60), width=4096, height=2304)
    meant = mask(2960, 1950, 90, 110, size=(4096, 2304))
    result = swapped(engine, scene, ALICE, meant=meant)
    assert result.scores["identity"] > result.scores["identity_before"] + 0.3
    assert change(scene, result.image)[:1900].max() == 0


def test_without_a_mask_the_largest_face_comes_first_and_the_card_warns(engine: FaceEngine) -> None:
    scene = image(LEFT, Drawn(CAROL, 400, 200, 150))
    first = session(engine, scene, ALICE)
    result, other = first.swap(Swap()), first.swap(Swap(assignment=1))
    assert result is not None
    assert other is not None
    assert result.detail.startswith("face 2 of 2 from the left")
    assert other.detail.startswith("face 1 of 2 from the left")
    assert "2 faces in the scene" in result.notes[0]
    assert result.notes == other.notes, "said once for all candidates"
    assert first.swap(Swap(assignment=2)) is None, "there is no third face"


def test_two_characters_go_to_two_faces_in_one_image(engine: FaceEngine) -> None:
    scene = image(LEFT, RIGHT)
    result = swapped(engine, scene, ALICE, BOB)
    assert result.scores["identity"] > 0.9, "the mean over both"
    assert "character 1: face 1 of 2 from the left" in result.detail
    exchanged = swapped(engine, scene, ALICE, BOB, recipe=Swap(assignment=1))
    assert "character 1: face 2 of 2 from the left" in exchanged.detail
    assert change(result.image, exchanged.image).max() > 50


def test_regions_map_characters_to_faces(engine: FaceEngine) -> None:
    regions = [mask(320, 110, 160, 180), mask(50, 110, 160, 180)]
    result = swapped(engine, image(LEFT, RIGHT), ALICE, BOB, regions=regions)
    assert "character 1: face 2 of 2 from the left" in result.detail


def test_by_similarity_each_character_takes_the_face_it_resembles(engine: FaceEngine) -> None:
    result = swapped(engine, image(LEFT, RIGHT), CAROL, BOB, mapping="similarity")
    assert "character 1: face 2 of 2 from the left" in result.detail


def test_blend_is_how_much_of_the_swap_is_seen(engine: FaceEngine) -> None:
    scene = image(LEFT)
    full = change(scene, swapped(engine, scene, ALICE).image)
    half = change(scene, swapped(engine, scene, ALICE, recipe=Swap(blend=0.5)).image)
    none = change(scene, swapped(engine, scene, ALICE, recipe=Swap(blend=0.0)).image)
    assert 0.35 < half.sum() / full.sum() < 0.65
    assert none.max() == 0


def test_choices_that_an_engine_does_not_know_fall_together(engine: FaceEngine) -> None:
    known = session(engine, image(LEFT), ALICE)
    assert known.usual(Swap(shape=0.2)) == Swap()
    assert known.usual(Swap(restore=True, boost=512)) == Swap(boost=512)


@pytest.mark.parametrize(
    ("scene", "people", "meant", "code"),
    [
        (image(), [ALICE], None, "no_face"),
        (image(), [ALICE], mask(10, 10, 60, 60), "no_face"),
        (image(LEFT), [ALICE], mask(400, 300, 60, 60), "no_face_in_mask"),
        (image(LEFT), [ALICE], mask(0, 0, 0, 0), "empty_mask"),
        (image(LEFT), [], None, "no_character"),
        (image(LEFT), [ALICE, BOB], None, "too_few_faces"),
        (
            image(Drawn(BOB, 60, 60, 30), width=120, height=120),
            [ALICE],
            None,
            "face_too_small",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_task_that_cannot_be_done_says_why(
    engine: FaceEngine,
    scene: Image.Image,
    people: list[Person],
    meant: Image.Image | None,
    code: str,
) -> None:
    assert refusal(engine, scene, *people, meant=meant).code == code


def test_a_mask_that_misses_says_by_how_much(engine: FaceEngine) -> None:
    error = refusal(engine, image(LEFT, RIGHT), ALICE, meant=mask(200, 300, 60, 60))
    assert "2 faces found" in error.message
    assert "0%" in error.message


def test_a_character_without_a_face_is_named(engine: FaceEngine) -> None:
    task = EditTask("scene", "Swap.", route="face_swap")
    pictures = (portrait(ALICE), Image.new("RGB", (64, 64), "white"))
    with pytest.raises(FaceError, match="character 2") as caught:
        SwapSession(engine, task, TaskImages(image(LEFT, RIGHT), references=pictures))
    assert caught.value.code == "no_face_in_character"


def test_the_larger_of_two_faces_in_a_characters_picture_is_used_with_a_word(
    engine: FaceEngine,
) -> None:
    pictures = (image(Drawn(ALICE, 130, 200, 130), Drawn(CAROL, 400, 200, 110)),)
    task = EditTask("scene", "Swap.", route="face_swap")
    result = SwapSession(engine, task, TaskImages(image(LEFT), references=pictures)).swap(Swap())
    assert result is not None
    assert "2 faces in the picture of the character" in result.notes[0]


@pytest.mark.parametrize("turned", [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180])
def test_a_photo_that_lies_on_its_side_by_exif_is_swapped_upright(
    engine: FaceEngine, turned: Image.Transpose
) -> None:
    upright = image(LEFT)
    exif = Image.Exif()
    exif[0x0112] = {Image.Transpose.ROTATE_90: 6, Image.Transpose.ROTATE_180: 3}[turned]
    buffer = io.BytesIO()
    upright.transpose(turned).save(buffer, "PNG", exif=exif)
    result = swapped(engine, decode(buffer.getvalue(), ImageLimits()), ALICE)
    assert result.image.size == upright.size
    assert result.scores["identity"] > 0.95


@pytest.mark.parametrize("size", [(1, 1), (9, 400), (400, 9)])
def test_pictures_of_any_shape_end_in_a_sentence(engine: FaceEngine, size: tuple[int, int]) -> None:
    flat = Image.new("RGB", size, "gray")
    assert refusal(engine, flat, ALICE).code == "no_face"
    grey = decode(encode_png(flat.convert("L")), ImageLimits(min_side=1))
    assert refusal(engine, grey, ALICE).code == "no_face"
