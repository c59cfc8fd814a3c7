"""Masks for scorers: at an image's size, black and white, and only where they divide it."""

from __future__ import annotations

from PIL import Image

from eacps.images import TaskImages

NEUTRAL = (127, 127, 127)


def dividing_mask(images: TaskImages) -> Image.Image | None:
    """The mask at the source's size; None where it is missing, empty, or covers everything,
    because then there are no two sides to judge."""
    if images.mask is None:
        return None
    mask = images.mask.resize(images.source.size, Image.Resampling.NEAREST)
    mask = mask.convert("L").point(lambda value: 255 if value >= 128 else 0)
    return None if mask.getextrema() in ((0, 0), (255, 255)) else mask


def outside(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The image with everything inside the mask painted over."""
    return Image.composite(Image.new("RGB", image.size, NEUTRAL), image, mask)


def inside(image: Image.Image, mask: Image.Image, margin: float = 0.1) -> Image.Image:
    """The image cut down to the mask and a little around it."""
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    across, down = round((right - left) * margin), round((bottom - top) * margin)
    box = (
        max(0, left - across),
        max(0, top - down),
        min(image.width, right + across),
        min(image.height, bottom + down),
    )
    return image.crop(box)


def at_source_size(images: TaskImages, edited: Image.Image) -> Image.Image:
    """An edited image laid over the source, pixel by pixel."""
    if edited.size == images.source.size:
        return edited
    return edited.resize(images.source.size, Image.Resampling.LANCZOS)
