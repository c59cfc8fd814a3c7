"""`identity`: how similar the faces in an edited image are to the characters."""

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
from eacps.faces.selection import MIN_COVER, MIN_SIDE, Mask, cosine, cover, face_of_character
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.recent import Recent
from eacps.settings import Settings

_MAX_COMPARED = 6
"""At most this many faces of an image are compared, the largest ones."""


CACHED_TASKS = 4


class IdentityScorer:
    """`identity`: cosine similarity of each character's face to the most similar face in the edit,
    averaged; `identity_before`: the same for the task's picture. Missing without a picture of a
    character or without a face engine."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        name: SWAP_RANGES[name] for name in (IDENTITY, IDENTITY_BEFORE)
    }

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._judges = Recent[str, IdentityJudge](CACHED_TASKS)

    @classmethod
    def load(cls, context: Context) -> IdentityScorer:
        """Create the scorer; it loads the engine when the first task needs it."""
        return cls(context.settings, context.device)

    @classmethod
    def wanted(cls, _settings: Settings, _metric_names: Collection[str]) -> bool:
        """Always true, because it is useful to reviewers and free without a picture."""
        return True

    @staticmethod
    def needs_device(task: EditTask) -> bool:
        """Only for the face engine, where there is a picture of a character."""
        return bool(task.references)

    def score(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        _progress: Sequence[float] = (),
    ) -> Sequence[Mapping[str, float]]:
        """Score identity before and after the edit."""
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
            # Route edit needs no face engine; its reference may be a dress.
            return None


class IdentityJudge:
    """Compares the faces in a task's images with its characters.

    A picture without a usable face, e.g. of a dress, is ignored.
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
        """Identity in the source and in each edited image."""
        if not self._characters:
            return [{} for _ in edited]
        before = self.identity(source)
        return [{IDENTITY: self.identity(image), IDENTITY_BEFORE: before} for image in edited]

    def identity(self, image: Image.Image) -> float:
        """The mean similarity over the characters; 0 if no face is found."""
        pixels = np.array(image.convert("RGB"))
        faces = self._faces(pixels)
        alike = [
            max((cosine(one, face) for face in faces), default=0.0) for one in self._characters
        ]
        return float(np.mean(alike))

    def _faces(self, pixels: Pixels) -> list[Face]:
        found = [face for face in self._engine.detect(pixels) if face.side >= MIN_SIDE / 2]
        if self._mask is not None and self._mask.shape == pixels.shape[:2]:
            inside = [face for face in found if cover(face, self._mask) >= MIN_COVER]
            found = inside or found
        return [self._engine.described(pixels, face) for face in found[:_MAX_COMPARED]]

    def _face(self, picture: Pixels, number: int) -> Face | None:
        try:
            return face_of_character(self._engine, picture, f"character {number}")[0]
        except FaceError:
            return None
