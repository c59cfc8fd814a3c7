"""Maps characters to faces, the most likely mapping first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, permutations

import numpy as np

from eacps.domain import FaceMapping
from eacps.errors import FaceError
from eacps.faces.protocol import Character, Face
from eacps.faces.selection import FoundFaces, Mask, cosine, region_face

Assignment = tuple[Face, ...]
"""One face per character, in the characters' order."""

MAX_COMPARED = 20_000


def assignments(
    found: FoundFaces,
    characters: Sequence[Character],
    mapping: FaceMapping,
    regions: Sequence[Mask],
) -> list[Assignment]:
    """All sensible mappings of characters to faces; only one if regions are given."""
    if len(found.faces) < len(characters):
        raise FaceError(
            f"There are {len(characters)} characters, but only {len(found.faces)} usable faces in "
            "the scene.",
            hint="Provide one picture per face to replace, or enlarge the mask.",
            code="too_few_faces",
        )
    if _by_regions(mapping, characters, regions):
        return [_in_regions(found, characters, regions)]
    if mapping == "similarity":
        return _most_similar(found, characters)
    return _in_order(found, len(characters))


def _by_regions(
    mapping: FaceMapping, characters: Sequence[Character], regions: Sequence[Mask]
) -> bool:
    fitting = len(regions) == len(characters)
    if mapping == "regions" and not fitting:
        raise FaceError(
            f"There are {len(characters)} characters, but {len(regions)} regions.",
            hint="Draw one region per character, in the same order, or set EACPS_FACE_MAPPING "
            "to order.",
            code="bad_mapping",
        )
    return mapping == "regions" or (mapping == "auto" and fitting and len(characters) > 1)


def _in_regions(
    found: FoundFaces, characters: Sequence[Character], regions: Sequence[Mask]
) -> Assignment:
    chosen = [region_face(found, region, number) for number, region in enumerate(regions, 1)]
    if len(set(chosen)) < len(characters):
        raise FaceError(
            "Two regions cover the same face.",
            hint="Draw one region per face.",
            code="bad_mapping",
        )
    return tuple(found.faces[index] for index in chosen)


def _in_order(found: FoundFaces, count: int) -> list[Assignment]:
    """The most likely faces from left to right, then their permutations, then other faces."""
    if count == 1:
        return [(face,) for face in found.faces]
    likeliest = sorted(found.faces[:count], key=lambda face: face.centre[0])
    exchanged = list(permutations(likeliest))
    others = (
        tuple(sorted((*found.faces[: count - 1], face), key=lambda one: one.centre[0]))
        for face in found.faces[count:]
    )
    return [*exchanged, *others]


def _most_similar(found: FoundFaces, characters: Sequence[Character]) -> list[Assignment]:
    similarity = np.array(
        [[cosine(character.face, face) for face in found.faces] for character in characters]
    )
    rows = range(len(characters))
    every = islice(permutations(range(len(found.faces)), len(characters)), MAX_COMPARED)
    best_first = sorted(
        every, key=lambda chosen: -sum(similarity[row, chosen[row]] for row in rows)
    )
    return [tuple(found.faces[index] for index in chosen) for chosen in best_first]
