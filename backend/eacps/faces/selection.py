"""Selects the faces of a scene to replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eacps.errors import FaceError
from eacps.faces.protocol import Character, Face, FaceEngine, Pixels

Mask = NDArray[np.bool_]

MIN_COVER = 0.25
"""Minimum share of a face's box inside the mask."""
MIN_SIDE = 32
MAX_FACES = 12
"""Only the largest faces are considered if there are more."""
_FOUND_IN_CROP = 0.3
_GROW = 0.6
_MIN_CROP = 256


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """The described faces that may be meant, most likely first."""

    faces: tuple[Face, ...]
    in_mask: bool = False

    def place(self, face: Face) -> str:
        """The position of a face among these, in words."""
        if len(self.faces) == 1:
            return "the face in the mask" if self.in_mask else "the only face"
        from_left = sorted(self.faces, key=lambda one: one.centre[0])
        number = next(index for index, one in enumerate(from_left, start=1) if one is face)
        masked = "masked " if self.in_mask else ""
        return f"{masked}face {number} of {len(from_left)} from the left"


def select_faces(
    engine: FaceEngine, scene: Pixels, mask: Mask | None, characters: Sequence[Character]
) -> FoundFaces:
    """The faces in the mask or the whole scene; raises FaceError if none is usable."""
    found = list(engine.detect(scene)) if mask is None else _detected(engine, scene, mask)
    if not found:
        raise _no_face()
    inside = found if mask is None else _inside(found, mask)
    usable = _large_enough(inside)
    described = [engine.described(scene, face) for face in usable]
    if mask is not None:
        merit = _merit(described, mask, characters)
        order = sorted(range(len(described)), key=lambda index: -merit[index])
        described = [described[index] for index in order]
    return FoundFaces(tuple(described), in_mask=mask is not None)


def _large_enough(faces: Sequence[Face]) -> list[Face]:
    likely = sorted(faces, key=lambda face: -face.area)
    usable = [face for face in likely if face.side >= MIN_SIDE]
    if not usable:
        raise FaceError(
            f"The face is {likely[0].side:.0f} px wide; at least {MIN_SIDE} px are needed.",
            hint="Use a larger picture, or mark a larger face.",
            code="face_too_small",
        )
    return usable[:MAX_FACES]


def _merit(faces: Sequence[Face], mask: Mask, characters: Sequence[Character]) -> list[float]:
    """Scores by share in the mask, distance from its centre, and similarity to a character."""
    likeness = [
        max((cosine(face, character.face) for character in characters), default=0.0)
        for face in faces
    ]
    distances = _distances(faces, mask)
    return [
        cover(face, mask) - 0.5 * distance + alike
        for face, distance, alike in zip(faces, distances, likeness, strict=True)
    ]


def cosine(one: Face, other: Face) -> float:
    """The cosine similarity of two described faces; 0 if one is not described."""
    if one.embedding is None or other.embedding is None:
        return 0.0
    lengths = float(np.linalg.norm(one.embedding) * np.linalg.norm(other.embedding))
    return float(np.dot(one.embedding, other.embedding) / max(lengths, 1e-9))


def face_of_character(engine: FaceEngine, picture: Pixels, name: str) -> tuple[Face, list[str]]:
    """The described face in a character's picture, and warnings about its selection."""
    found = sorted(engine.detect(picture), key=lambda face: -face.area)
    if not found:
        raise FaceError(
            f"No face was found in the picture of {name}.",
            hint="Use a picture that shows the face from the front, large and upright.",
            code="no_face_in_character",
        )
    if found[0].side < MIN_SIDE:
        raise FaceError(
            f"The face in the picture of {name} is {found[0].side:.0f} px wide; at least "
            f"{MIN_SIDE} px are needed.",
            hint="Use a larger picture.",
            code="face_too_small",
        )
    notes = []
    if len(found) > 1 and found[1].area > found[0].area / 2:
        notes.append(f"{len(found)} faces in the picture of {name}: the largest was used.")
    return engine.described(picture, found[0]), notes


def region_face(found: FoundFaces, region: Mask, number: int) -> int:
    """The index of the face that a region covers."""
    covers = [cover(face, region) for face in found.faces]
    best = max(range(len(covers)), key=covers.__getitem__)
    if covers[best] < MIN_COVER:
        raise FaceError(
            f"There is no face in region {number} (best overlap {covers[best]:.0%}).",
            hint="Move or enlarge that region, or set EACPS_FACE_MAPPING to order.",
            code="no_face_in_mask",
        )
    return best


def cover(face: Face, mask: Mask) -> float:
    """The share of a face's box that the mask covers."""
    left, top, right, bottom = np.round(face.box).astype(int)
    height, width = mask.shape
    within = mask[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    area = max(1, int(right - left) * int(bottom - top))
    return int(within.sum()) / area


def _detected(engine: FaceEngine, scene: Pixels, mask: Mask) -> list[Face]:
    """Search around the mask first, where small faces of a large scene are found."""
    left, top, right, bottom = _around(mask)
    crop = np.ascontiguousarray(scene[top:bottom, left:right])
    found = [face.moved(left, top) for face in engine.detect(crop)]
    if any(cover(face, mask) > _FOUND_IN_CROP for face in found):
        return found
    everywhere = list(engine.detect(scene)) or found
    if not everywhere:
        raise _no_face()
    return everywhere


def _around(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise FaceError(
            "The mask is empty.",
            hint="Draw it over the face to replace.",
            code="empty_mask",
        )
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    half = max(max(right - left, bottom - top) * (1 + 2 * _GROW), _MIN_CROP) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    height, width = mask.shape
    return (
        max(0, int(x - half)),
        max(0, int(y - half)),
        min(width, int(np.ceil(x + half))),
        min(height, int(np.ceil(y + half))),
    )


def _inside(faces: Sequence[Face], mask: Mask) -> list[Face]:
    covers = [cover(face, mask) for face in faces]
    inside = [index for index, share in enumerate(covers) if share >= MIN_COVER]
    if not inside:
        raise FaceError(
            f"{_counted(len(faces))} found, none in the mask (best overlap {max(covers):.0%}).",
            hint="Move or enlarge the mask.",
            code="no_face_in_mask",
        )
    return [faces[index] for index in inside]


def _distances(faces: Sequence[Face], mask: Mask) -> list[float]:
    """Distances of faces from the mask's centre, relative to the square root of its area."""
    rows, columns = np.nonzero(mask)
    middle = np.array([columns.mean(), rows.mean()])
    side = np.sqrt(len(rows))
    return [float(np.linalg.norm(np.array(face.centre) - middle) / side) for face in faces]


def _no_face() -> FaceError:
    return FaceError(
        "No face is found in the scene.",
        hint="Use a picture with a frontal face, or label the task as an edit.",
        code="no_face",
    )


def _counted(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"
