"""Images, a mask and a task for the tests of scorers."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageDraw

from eacps.demo.bears import random_scene, render
from eacps.domain import EditTask
from eacps.images import TaskImages


def bear(seed: int) -> Image.Image:
    """A random scene of the demo."""
    scene = render(random_scene(Random(seed)))
    return scene.resize((96, 96), Image.Resampling.NEAREST)


def with_hat(image: Image.Image, colour: str = "red") -> Image.Image:
    """The image with a hat in its upper part."""
    edited = image.copy()
    ImageDraw.Draw(edited).polygon([(34, 34), (62, 34), (48, 4)], fill=colour)
    return edited


def upper_half(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A mask over the upper part, where the hat is."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0], size[1] * 2 // 5))
    return mask


def task(name: str = "a") -> EditTask:
    """A task that asks for a hat."""
    return EditTask(image=name, instruction="give the bear a red party hat")


def images(source: Image.Image, mask: Image.Image | None = None) -> TaskImages:
    """The task's images."""
    return TaskImages(source, mask)
