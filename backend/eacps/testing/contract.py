"""The error and the test pictures that all checks share."""

from __future__ import annotations

from PIL import Image, ImageDraw

from eacps.domain import EditTask
from eacps.images import TaskImages


class ContractError(AssertionError):
    """A plug-in breaks the contract of its protocol."""


def require(condition: bool, words: str) -> None:
    """Raise ContractError with this message unless the condition holds."""
    # Not `assert`, which `python -O` removes.
    if not condition:
        raise ContractError(words)


def picture(size: tuple[int, int] = (96, 96), colour: str = "firebrick") -> Image.Image:
    """A scene with a box, and a circle in this colour."""
    image = Image.new("RGB", size, "lightsteelblue")
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.rectangle([width // 2, height // 2, width - 4, height - 4], fill="royalblue")
    draw.ellipse([width // 6, height // 6, width * 3 // 5, height * 3 // 5], fill=colour)
    return image


def mask(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A mask of the circle."""
    image = Image.new("L", size, 0)
    width, height = size
    box = [width // 6, height // 6, width * 3 // 5, height * 3 // 5]
    ImageDraw.Draw(image).rectangle(box, fill=255)
    return image


def edits() -> list[Image.Image]:
    """Edits of the scene: unchanged, correct, wrong, and in another size."""
    return [picture(), picture(colour="seagreen"), picture(colour="black"), picture((128, 80))]


def edit_tasks() -> list[tuple[EditTask, TaskImages]]:
    """One task of each kind that a judge may be given: plain, with a mask, with a character."""
    plain = EditTask("a", "make the circle green")
    masked = EditTask("b", "make the circle green", mask="m")
    character = EditTask("c", "make the circle green", route="character", references=("r",))
    return [
        (plain, TaskImages(picture())),
        (masked, TaskImages(picture(), mask=mask())),
        (character, TaskImages(picture(), references=(picture(colour="gold"),))),
    ]
