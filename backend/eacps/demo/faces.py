"""Face swaps for the demo, with pictures from installed packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw

Upload = Callable[[str, Image.Image], str]
"""Uploads a picture under a name and returns its path in Label Studio."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

CROWD: Final = ("insightface", "data/images/t1.jpg")
CROWD_SIZE: Final = (1280, 886)
IN_SHIRT: Final[Box] = (400, 190, 650, 460)
IN_RED: Final[Box] = (600, 230, 1010, 640)
WITH_CARDS: Final[Box] = (10, 220, 240, 450)
AT_RIGHT: Final[Box] = (1060, 225, 1280, 445)
FACE_WITH_CARDS: Final[Box] = (45, 235, 185, 415)
FACE_AT_RIGHT: Final[Box] = (1105, 245, 1240, 415)


class NoFacesError(RuntimeError):
    """There are no pictures with faces; the message says why."""


@dataclass(frozen=True, slots=True)
class FaceTask:
    """A scene, the characters to swap in, and optionally one mask per character."""

    name: str
    scene: Image.Image
    instruction: str
    characters: tuple[Image.Image, ...]
    masks: tuple[Image.Image, ...] = ()

    def data(self, upload: Upload) -> dict[str, Any]:
        """Upload the pictures and return the data of the task in Label Studio."""
        data = {
            "image": upload(f"{self.name}.png", self.scene),
            "prompt": self.instruction,
            "route": "Face swap",
            "reference": self._uploaded("character", self.characters, upload),
        }
        masks = self._uploaded("mask", self.masks, upload)
        return {**data, "mask": masks} if masks else data

    def _uploaded(self, what: str, images: Sequence[Image.Image], upload: Upload) -> list[str]:
        return [
            upload(f"{what}-{number}-of-{self.name}.png", image)
            for number, image in enumerate(images, start=1)
        ]


def face_tasks() -> list[FaceTask]:
    """A scene with one face, and one with six in which two masked faces are exchanged."""
    crowd = _crowd()
    return [
        FaceTask(
            "face-one",
            crowd.crop(IN_RED),
            "Swap the face for the character's",
            (crowd.crop(IN_SHIRT),),
        ),
        FaceTask(
            "face-two",
            crowd,
            "Exchange the faces of the two blonde women",
            (crowd.crop(AT_RIGHT), crowd.crop(WITH_CARDS)),
            (_oval(crowd.size, FACE_WITH_CARDS), _oval(crowd.size, FACE_AT_RIGHT)),
        ),
    ]


def picture_in(package: str, name: str) -> Image.Image:
    """A picture in an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise NoFacesError(
            f"The package {package}, which contains pictures of faces, is not installed."
        )
    path = Path(spec.origin).parent / name
    try:
        return Image.open(path).convert("RGB")
    except OSError as error:
        raise NoFacesError(f"{path} cannot be read ({type(error).__name__}).") from error


def _crowd() -> Image.Image:
    image = picture_in(*CROWD)
    if image.size != CROWD_SIZE:
        raise NoFacesError(f"{'/'.join(CROWD)} is not the expected picture.")
    return image


def _oval(size: tuple[int, int], box: Box) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask
