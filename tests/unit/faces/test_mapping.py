"""Which character goes to which face."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eacps.domain import FaceMapping
from eacps.errors import FaceError
from eacps.faces.mapping import assignments
from eacps.faces.protocol import Character, Face
from eacps.faces.selection import FoundFaces

SCENE = (100, 300)


def face(x: int, side: int = 40, who: int = 0) -> Face:
    """A face at a place of the scene; `who` decides whom it resembles."""
    box = np.array([x, 20, x + side, 20 + side], dtype=np.float32)
    embedding = np.eye(8, dtype=np.float32)[who]
    return Face(box, np.zeros((5, 2), dtype=np.float32), 0.9, embedding)


def people(*who: int) -> list[Character]:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    return [Character(picture, face(0, who=one), f"character {one}") for one in who]


def region(x: int, side: int = 40) -> NDArray[np.bool_]:
    mask = np.zeros(SCENE, dtype=bool)
    mask[20 : 20 + side, x : x + side] = True
    return mask


LEFT, MIDDLE, RIGHT = face(10, who=1), face(110, who=2), face(210, who=3)
FOUND = FoundFaces((MIDDLE, RIGHT, LEFT))


def places(chosen: tuple[Face, ...]) -> list[float]:
    return [one.box[0] for one in chosen]


def test_one_character_goes_to_the_likeliest_face_then_to_the_others() -> None:
    offered = assignments(FOUND, people(0), "auto", [])
    assert [places(chosen) for chosen in offered] == [[110], [210], [10]]


def test_by_order_characters_go_from_left_to_right() -> None:
    offered = assignments(FOUND, people(0, 1, 2), "auto", [])
    assert places(offered[0]) == [10, 110, 210]


def test_characters_may_be_exchanged_or_go_to_a_further_face() -> None:
    offered = assignments(FOUND, people(0, 1), "order", [])
    assert places(offered[0]) == [110, 210]
    assert places(offered[1]) == [210, 110]
    assert [10, 110] in [places(chosen) for chosen in offered]


def test_by_similarity_each_goes_to_the_face_most_alike() -> None:
    offered = assignments(FOUND, people(3, 1), "similarity", [])
    assert places(offered[0]) == [210, 10]


def test_as_many_regions_as_characters_are_taken_at_their_word() -> None:
    offered = assignments(FOUND, people(0, 1), "auto", [region(210), region(10)])
    assert [places(chosen) for chosen in offered] == [[210, 10]]


def test_a_single_region_is_a_mask_and_leaves_the_choice_open() -> None:
    assert len(assignments(FOUND, people(0), "auto", [region(210)])) == 3


@pytest.mark.parametrize(
    ("characters", "mapping", "regions", "code"),
    [
        (people(0, 1, 2, 3), "auto", [], "too_few_faces"),
        (people(0, 1), "regions", [region(10)], "bad_mapping"),
        (people(0, 1), "regions", [region(10), region(12)], "bad_mapping"),
        (people(0, 1), "auto", [region(10), region(60)], "no_face_in_mask"),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    characters: list[Character], mapping: FaceMapping, regions: list[NDArray[np.bool_]], code: str
) -> None:
    with pytest.raises(FaceError) as caught:
        assignments(FOUND, characters, mapping, regions)
    assert caught.value.code == code
    assert caught.value.hint


def test_a_place_is_named_as_a_reviewer_sees_it() -> None:
    assert FOUND.place(RIGHT) == "face 3 of 3 from the left"
    assert FoundFaces((LEFT,)).place(LEFT) == "the only face"
    assert FoundFaces((LEFT,), in_mask=True).place(LEFT) == "the face in the mask"
