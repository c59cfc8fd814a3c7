"""`identity`: whether an edited image shows the character."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from eacps.domain import EditTask
from eacps.errors import FaceError
from eacps.faces.protocol import Face, FaceEngine, Pixels
from eacps.faces.ranges import IDENTITY, IDENTITY_BEFORE, SWAP_RANGES
from eacps.faces.registry import shared_engine
from eacps.faces.selection import LEAST_COVER, LEAST_SIDE, Mask, cosine, cover, face_of_character
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.recent import Recent
from eacps.settings import Settings

_LOOKED_AT = 6
"""Faces of one image that are compared, the largest first."""


CACHED_TASKS = 4


class IdentityScorer:
    """`identity`: the cosine between the characters' faces and the faces most alike them in the
    edit, and `identity_before` the same in the picture that the task brought. Without a picture
    of a character, or without a face engine, there are no such metrics."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        name: SWAP_RANGES[name] for name in (IDENTITY, IDENTITY_BEFORE)
    }

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._judges = Recent[str, IdentityJudge](CACHED_TASKS)

    @classmethod
    def load(cls, context: Context) -> IdentityScorer:
        """Opens the engine only when a task brings a picture."""
        return cls(context.settings, context.device)

    @classmethod
    def wanted(cls, _settings: Settings, _metric_names: Collection[str]) -> bool:
        """Always: reviewers want to see it, and it costs nothing without a picture."""
        return True

    def score(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        _progress: Sequence[float] = (),
    ) -> Sequence[Mapping[str, float]]:
        """How much the characters are themselves, before and after."""
        judge = self._judge(task, images) if task.references else None
        if judge is None:
            return [{} for _ in edited]
        return judge.scores(images.original, edited)

    def _judge(self, task: EditTask, images: TaskImages) -> IdentityJudge | None:
        def make() -> IdentityJudge:
            engine = shared_engine(self._settings, self._device).engine
            return IdentityJudge(engine, images.references, images.mask)

        try:
            return self._judges.get_or_make(task.key, make)
        except FaceError:
            # An edit with a reference needs no face engine: its reference may be a dress.
            return None


class IdentityJudge:
    """The characters of one task, and how much they are themselves in images of it.

    A picture without a usable face, such as one of a dress, is no character: it is left out.
    """

    def __init__(
        self, engine: FaceEngine, references: Sequence[Image.Image], mask: Image.Image | None
    ) -> None:
        self._engine = engine
        self._mask: Mask | None = np.asarray(mask.convert("L")) >= 128 if mask else None
        self._characters = [
            face
            for number, picture in enumerate(references, start=1)
            if (face := self._face(np.array(picture.convert("RGB")), number)) is not None
        ]

    def scores(
        self, source: Image.Image, edited: Sequence[Image.Image]
    ) -> list[Mapping[str, float]]:
        """Cosines of the characters' faces with the faces most alike them, before and after."""
        if not self._characters:
            return [{} for _ in edited]
        before = self.identity(source)
        return [{IDENTITY: self.identity(image), IDENTITY_BEFORE: before} for image in edited]

    def identity(self, image: Image.Image) -> float:
        """The mean over the characters; 0 where no face is found."""
        pixels = np.array(image.convert("RGB"))
        faces = self._faces(pixels)
        alike = [
            max((cosine(one, face) for face in faces), default=0.0) for one in self._characters
        ]
        return float(np.mean(alike))

    def _faces(self, pixels: Pixels) -> list[Face]:
        found = [face for face in self._engine.detect(pixels) if face.side >= LEAST_SIDE / 2]
        if self._mask is not None and self._mask.shape == pixels.shape[:2]:
            inside = [face for face in found if cover(face, self._mask) >= LEAST_COVER]
            found = inside or found
        return [self._engine.described(pixels, face) for face in found[:_LOOKED_AT]]

    def _face(self, picture: Pixels, number: int) -> Face | None:
        try:
            return face_of_character(self._engine, picture, f"character {number}")[0]
        except FaceError:
            return None
