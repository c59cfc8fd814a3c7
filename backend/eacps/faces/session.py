"""One task on one face engine: selects the faces once, then applies recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from PIL import Image

from eacps.domain import DEFAULT_BOOST, DEFAULT_SHAPE, EditTask, Swap
from eacps.errors import FaceError
from eacps.faces.mapping import Assignment, assignments
from eacps.faces.metrics import swap_scores
from eacps.faces.paste import paste
from eacps.faces.protocol import Character, Face, FaceEngine, Pixels
from eacps.faces.selection import FoundFaces, Mask, face_of_character, select_faces
from eacps.images import TaskImages

TURNED_AWAY = 30.0
Box = tuple[int, int, int, int]
_USUAL: Mapping[str, object] = {"boost": DEFAULT_BOOST, "shape": DEFAULT_SHAPE, "restore": False}


@dataclass(frozen=True)
class Swapped:
    """A scene with swapped faces: its scores, warnings, the mapping in words, and the boxes (left,
    top, right, bottom) of the swapped faces."""

    image: Image.Image
    scores: Mapping[str, float]
    notes: tuple[str, ...]
    detail: str
    faces: tuple[Box, ...] = ()


class SwapSession:
    """The characters and faces of one task. Raises FaceError if the task is impossible."""

    def __init__(
        self,
        engine: FaceEngine,
        task: EditTask,
        images: TaskImages,
        *,
        notes: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._task = task
        self._scene = _pixels(images.source)
        self._mask = _mask(images.mask, images.source.size)
        self._regions = [
            mask
            for region in images.regions
            if (mask := _mask(region, images.source.size)) is not None
        ]
        self._notes = list(notes)
        self._characters = list(self._described(images.references))

    def swap(self, recipe: Swap) -> Swapped | None:
        """Apply a recipe to the scene; returns None if the engine or scene does not offer it."""
        if recipe.assignment >= len(self._assignments) or not self._engine.offers(recipe):
            return None
        chosen = self._assignments[recipe.assignment]
        after = self._scene.copy()
        for character, face in zip(self._characters, chosen, strict=True):
            # Make each patch from the original scene, so that swaps do not affect each other.
            patch = self._engine.patch(self._scene, face, character, recipe)
            paste(after, patch, strength=recipe.blend, mask=self._mask)
        pairs = list(zip(self._characters, chosen, strict=True))
        scores, notes = swap_scores(self._engine, self._scene, after, pairs)
        return Swapped(
            image=Image.fromarray(after),
            scores=scores,
            notes=(*self._notes, *self._warnings(chosen), *notes),
            detail=f"{self._who(chosen)}; {recipe.words}",
            faces=tuple(_rounded(face) for face in chosen),
        )

    def usual(self, recipe: Swap) -> Swap:
        """The recipe with unsupported options replaced by their defaults."""
        for count in range(len(_USUAL) + 1):
            for names in combinations(_USUAL, count):
                plain = replace(recipe, **{name: _USUAL[name] for name in names})  # type: ignore[arg-type]
                if self._engine.offers(plain):
                    return plain
        return recipe

    @cached_property
    def _found(self) -> FoundFaces:
        return select_faces(self._engine, self._scene, self._mask, self._characters)

    @cached_property
    def _assignments(self) -> Sequence[Assignment]:
        return assignments(self._found, self._characters, self._task.mapping, self._regions)

    def _described(self, pictures: Sequence[Image.Image]) -> Iterator[Character]:
        if not pictures:
            raise FaceError(
                "The task has no character.",
                hint="Add a picture of the character's face to the task.",
                code="no_character",
            )
        for number, picture in enumerate(map(_pixels, pictures), start=1):
            name = "the character" if len(pictures) == 1 else f"character {number}"
            face, notes = face_of_character(self._engine, picture, name)
            self._notes.extend(notes)
            yield self._engine.character(picture, face, name)

    def _who(self, chosen: Assignment) -> str:
        places = [self._found.place(face) for face in chosen]
        if len(places) == 1:
            return places[0]
        pairs = zip(self._characters, places, strict=True)
        return ", ".join(f"{character.name}: {place}" for character, place in pairs)

    def _warnings(self, chosen: Assignment) -> Iterator[str]:
        meant = len(self._found.faces)
        if meant > len(chosen) and not self._regions:
            # The same text on every candidate, so that the report can show it once.
            where = "in the mask" if self._mask is not None else "in the scene"
            likeliest = self._who(self._assignments[0])
            yield f"{meant} faces {where}; used {likeliest}. Mark one to be sure."
        for face in chosen:
            if face.yaw is not None and abs(face.yaw) > TURNED_AWAY:
                yield (
                    f"The scene's face is turned away by {abs(face.yaw):.0f}°; above about "
                    f"{TURNED_AWAY:.0f}°, a swap may look flat."
                )


def _rounded(face: Face) -> Box:
    left, top, right, bottom = (round(float(edge)) for edge in face.box)
    return left, top, right, bottom


def _pixels(image: Image.Image) -> Pixels:
    return np.array(image.convert("RGB"))


def _mask(mask: Image.Image | None, size: tuple[int, int]) -> Mask | None:
    if mask is None:
        return None
    fitted = mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)
    return np.asarray(fitted.convert("L")) >= 128
