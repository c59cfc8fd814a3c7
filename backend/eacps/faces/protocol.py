"""What swapping faces asks of an engine. Pixels are RGB, height x width x 3, 8 bit."""

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

    The last three are there once the engine has described it; `yaw` is in degrees, 0 frontal.
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
        """The same face in an image in which it lies further right and down."""
        offset = np.array([x, y], dtype=np.float32)
        mesh = self.mesh
        if mesh is not None:
            mesh = mesh + np.array([x, y, 0], dtype=np.float32)
        box = self.box + np.tile(offset, 2)
        return replace(self, box=box, points=self.points + offset, mesh=mesh)


@dataclass(frozen=True, eq=False)
class Character:
    """Whose face is to appear: a picture and the described face in it."""

    picture: Pixels
    face: Face
    name: str = "the character"


@dataclass(frozen=True, eq=False)
class Patch:
    """The pixels that replace a rectangle of the scene whose corner is (x, y), and how strongly
    they do so, pixel by pixel, from 0 to 1."""

    x: int
    y: int
    pixels: Pixels
    alpha: Field


class FaceEngine(Protocol):
    """Finds, describes and swaps faces with one set of models."""

    @property
    def name(self) -> str:
        """`basic` or `insightface`."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models in use, by file name."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the models really run, as ONNX Runtime's sessions report it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a card must say about this engine, such as a GPU that fell back to the CPU."""

    @property
    def same_person(self) -> float:
        """The cosine of two embeddings from which on they are taken for one person's."""

    def offers(self, recipe: Swap) -> bool:
        """Whether a recipe is a choice of its own here; an engine without pixel boost, say,
        offers recipes with one `boost` only."""

    def detect(self, image: Pixels) -> Sequence[Face]:
        """The faces of an image, the largest first; boxes and points only."""

    def described(self, image: Pixels, face: Face) -> Face:
        """The face with embedding, and with mesh and yaw where the engine knows them."""

    def character(self, picture: Pixels, face: Face, name: str) -> Character:
        """A character from a described face; raises FaceError if its face cannot be swapped in,
        such as a profile."""

    def patch(self, scene: Pixels, target: Face, character: Character, recipe: Swap) -> Patch:
        """The character's face as the scene's face wears it; `target` is described. `blend` is
        not the engine's affair."""
