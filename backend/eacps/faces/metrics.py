"""Metrics of swapped faces: identity, landmarks, sharpness, and changes outside the faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eacps.faces.geometry import overlap
from eacps.faces.protocol import Character, Face, FaceEngine, Pixels
from eacps.faces.ranges import IDENTITY, IDENTITY_BEFORE
from eacps.faces.selection import cosine

_AROUND = 0.6
"""The margin around a face in which it is searched again, relative to its box."""
_SAME_FACE = 0.2
_SHARPNESS_SIDE = 128


def swap_scores(
    engine: FaceEngine,
    before: Pixels,
    after: Pixels,
    pairs: Sequence[tuple[Character, Face]],
) -> tuple[Mapping[str, float], list[str]]:
    """The scores of a swapped image, averaged over its faces, and warnings."""
    scores: list[Mapping[str, float]] = []
    notes: list[str] = []
    for character, face in pairs:
        found = find_again(engine, after, face)
        if found is None:
            notes.append(f"After the swap, no face was found at the place of {character.name}.")
        scores.append(_face_scores(before, after, character, face, found))
    means = {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
    return {**means, "outside": _outside(before, after, [face for _, face in pairs])}, notes


def find_again(engine: FaceEngine, image: Pixels, face: Face) -> Face | None:
    """Detect and describe the face at the place of `face`, or None."""
    height, width = image.shape[:2]
    margin = _AROUND * max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    left, top = (max(0, int(edge - margin)) for edge in face.box[:2])
    right, bottom = min(width, int(face.box[2] + margin)), min(height, int(face.box[3] + margin))
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    if crop.size == 0:
        return None
    found = [one.moved(left, top) for one in engine.detect(crop)]
    overlaps = [overlap(one, face) for one in found]
    if not found or max(overlaps) < _SAME_FACE:
        return None
    return engine.described(image, found[int(np.argmax(overlaps))])


def _face_scores(
    before: Pixels, after: Pixels, character: Character, face: Face, found: Face | None
) -> dict[str, float]:
    scores = {
        IDENTITY: cosine(found, character.face) if found else 0.0,
        IDENTITY_BEFORE: cosine(face, character.face),
        "sharpness": min(1.0, _detail(after, face) / max(_detail(before, face), 1e-6)),
        "landmarks": 1.0,
    }
    if found is not None:
        eyes = float(np.linalg.norm(face.points[0] - face.points[1]))
        moved = np.linalg.norm(found.points - face.points, axis=1).mean()
        scores["landmarks"] = float(moved) / max(eyes, 1e-6)
    return scores


def _detail(image: Pixels, face: Face) -> float:
    """The strength of fine detail in a face, at a fixed size so that faces are comparable."""
    import cv2

    left, top, right, bottom = _box(face, image)
    if right - left < 2 or bottom - top < 2:
        return 0.0
    grey = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    shrunk = min(1.0, _SHARPNESS_SIDE / max(grey.shape))
    if shrunk < 1:
        grey = cv2.resize(grey, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    return float(np.sqrt(cv2.Laplacian(grey, cv2.CV_32F).var()))


def _outside(before: Pixels, after: Pixels, faces: Sequence[Face]) -> float:
    outside = np.ones(before.shape[:2], dtype=bool)
    for face in faces:
        left, top, right, bottom = _box(face, before, grow=0.5)
        outside[top:bottom, left:right] = False
    if not outside.any():
        return 0.0
    # In strips, because a large image would need hundreds of megabytes at once.
    total = 0.0
    for start in range(0, len(before), 256):
        rows = slice(start, start + 256)
        change = np.abs(after[rows].astype(np.int16) - before[rows])
        total += float(change[outside[rows]].sum())
    return total / (3 * int(outside.sum()))


def _box(face: Face, image: Pixels, grow: float = 0.0) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    more_x = grow * (face.box[2] - face.box[0])
    more_y = grow * (face.box[3] - face.box[1])
    return (
        max(0, int(face.box[0] - more_x)),
        max(0, int(face.box[1] - more_y)),
        min(width, int(face.box[2] + more_x)),
        min(height, int(face.box[3] + more_y)),
    )
