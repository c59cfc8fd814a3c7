"""The working size of an editor, and resizing to it."""

from __future__ import annotations

from PIL import Image


def working_size(
    size: tuple[int, int], longer_side: int, multiple: int, min_short_side: int = 0
) -> tuple[int, int]:
    """Scale `size` so that its longer side is `longer_side` and both sides are multiples of
    `multiple`. The result is larger if the shorter side would fall below `min_short_side`.

    >>> working_size((640, 480), longer_side=512, multiple=16)
    (512, 384)
    """
    longer_side = max(longer_side, round(min_short_side * max(size) / min(size)))
    scale = longer_side / max(size)
    limit = max(multiple, longer_side // multiple * multiple)
    width, height = (
        min(limit, max(multiple, round(side * scale / multiple) * multiple)) for side in size
    )
    return width, height


def at_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to exactly this size.

    An integer factor averages whole blocks of pixels, so that pixel art and upscaled small images
    are not blurred.
    """
    if image.size == size:
        return image
    factor = image.width // size[0]
    if factor > 1 and image.size == (size[0] * factor, size[1] * factor):
        return image.reduce(factor)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
