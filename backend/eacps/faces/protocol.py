"""The protocol of face engines. Pixels are 8-bit RGB of shape height x width x 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from eacps.domain import Swap

Pixels: TypeAlias = NDArray[np.uint8]
Field: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Face:
    """A face in an image: `box` is left, top, right, bottom; `points` are the eyes (the one on
    the image's left first), the nose and the mouth's corners.

    `described` fills in the last three fields; `yaw` is in degrees, 0 is frontal.
    """

    box: Field
    points: Field
    score: float
    embedding: Field | None = None
    mesh: Field | None = None
    yaw: float | None = None

    @property
    def side(self) -> float:
        """The shorter side of its box."""
        return float(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def area(self) -> float:
        """The area of its box."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of its box."""
        return (float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2)

    def moved(self, x: float, y: float) -> Face:
        """This face, shifted right and down."""
        offset = np.array([x, y], dtype=np.float32)
        mesh = self.mesh
        if mesh is not None:
            mesh = mesh + np.array([x, y, 0], dtype=np.float32)
        box = self.box + np.tile(offset, 2)
        return replace(self, box=box, points=self.points + offset, mesh=mesh)


@dataclass(frozen=True, eq=False)
class Character:
    """A person whose face is swapped in: a picture and the described face in it."""

    picture: Pixels
    face: Face
    name: str = "the character"


@dataclass(frozen=True, eq=False)
class Patch:
    """Pixels that replace a rectangle of the scene with its corner at (x, y); `alpha` is their
    opacity from 0 to 1."""

    x: int
    y: int
    pixels: Pixels
    alpha: Field


class FaceEngine(Protocol):
    """Finds, describes and swaps faces with one set of models."""

    @property
    def name(self) -> str:
        """The engine's name, such as `basic`."""

    @property
    def models(self) -> tuple[str, ...]:
        """The file names of the models."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the models actually run, as reported by ONNX Runtime."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for cards, e.g. that the engine fell back from the GPU to the CPU."""

    @property
    def same_person(self) -> float:
        """The cosine of embeddings above which two faces count as the same person."""

    def offers(self, recipe: Swap) -> bool:
        """Whether this engine supports the recipe. An engine without pixel boost, for example,
        supports only one value of `boost`."""

    def detect(self, image: Pixels) -> Sequence[Face]:
        """Detect the faces of an image, largest first; sets boxes and points only."""

    def described(self, image: Pixels, face: Face) -> Face:
        """Add the embedding to a face, and mesh and yaw if the engine computes them."""

    def character(self, picture: Pixels, face: Face, name: str) -> Character:
        """Make a character from a described face; raises FaceError if the face cannot be swapped
        in, e.g. because it is a profile."""

    def patch(self, scene: Pixels, target: Face, character: Character, recipe: Swap) -> Patch:
        """Render the character's face in place of the described face `target`; the caller applies
        `recipe.blend`."""
