"""Masks for scorers: black and white, in the source's size, with an inside and an outside."""

from __future__ import annotations

from PIL import Image

from eacps.images import TaskImages

NEUTRAL = (127, 127, 127)


def dividing_mask(images: TaskImages) -> Image.Image | None:
    """The mask in the source's size; None if it is missing, empty or covers the whole image,
    because then there is no inside and outside to judge."""
    if images.mask is None:
        return None
    mask = images.mask.resize(images.source.size, Image.Resampling.NEAREST)
    mask = mask.convert("L").point(lambda value: 255 if value >= 128 else 0)
    return None if mask.getextrema() in ((0, 0), (255, 255)) else mask


def outside(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The image with the inside of the mask painted grey."""
    return Image.composite(Image.new("RGB", image.size, NEUTRAL), image, mask)


def inside(image: Image.Image, mask: Image.Image, margin: float = 0.1) -> Image.Image:
    """The image cropped to the mask plus a margin."""
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
    """The edited image in the size of the source."""
    if edited.size == images.source.size:
        return edited
    return edited.resize(images.source.size, Image.Resampling.LANCZOS)
