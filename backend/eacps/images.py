"""Decodes untrusted image files, and the pixel operations that several parts share."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageOps
from PIL.PngImagePlugin import PngInfo

from eacps.errors import ImageError

ACCEPTED = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_SCANS = 100
MAX_SCANNED = 20
"""The scans of a JPEG may go over this many times EACPS_MAX_IMAGE_PIXELS together: 60 bytes of a
file can make one scan, and a scan of a large image takes a tenth of a second. Cameras need 10."""
MIN_SCANS = 10
LARGE_PIXELS = 10_000_000
STRIP_PIXELS = 2_000_000
_JPEG_IN_TIFF = ("jpeg", "tiff_jpeg")
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_one_large_image = threading.Lock()
"""Decoders take up to 16 bytes per pixel, so large images are decoded one after the other."""
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I")


@dataclass(frozen=True)
class ImageLimits:
    """Limits on the size of images, from the settings."""

    max_bytes: int = 30_000_000
    max_pixels: int = 40_000_000
    min_side: int = 8


@dataclass(frozen=True)
class TaskImages:
    """A task's decoded images.

    White parts of `mask` are edited. `references` are pictures of characters, `regions` masks of
    the faces that they replace. If the edit starts from a modified picture, such as one with a
    swapped face, that is `source`, and `untouched` is the task's picture.
    """

    source: Image.Image
    mask: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()
    regions: tuple[Image.Image, ...] = ()
    untouched: Image.Image | None = None

    @property
    def original(self) -> Image.Image:
        """The task's own picture."""
        return self.untouched or self.source

    @property
    def reference(self) -> Image.Image | None:
        """The picture of the first character, for editors that support only one."""
        return self.references[0] if self.references else None


def decode(content: bytes, limits: ImageLimits, *, what: str = "image") -> Image.Image:
    """Decode an untrusted file to an upright RGB image; raises ImageError."""
    with _opened(content, limits, what) as image:
        return _to_rgb(_oriented(image))


def decode_mask(content: bytes, limits: ImageLimits) -> Image.Image:
    """Decode an untrusted file to a mask: white (if all black: opaque) parts are edited."""
    with _opened(content, limits, "mask") as opened:
        image = _oriented(opened)
        if "A" in image.getbands() and image.convert("L").getextrema() == (0, 0):
            return image.getchannel("A")
        return _to_rgb(image).convert("L")


@contextmanager
def _opened(content: bytes, limits: ImageLimits, what: str) -> Iterator[Image.Image]:
    """The decoded image; the block should end when it is converted."""
    image = _open(content, limits, what)
    if image.width * image.height < LARGE_PIXELS:
        yield _loaded(image, what, limits)
        return
    with _one_large_image:
        yield _loaded(image, what, limits)


def _open(content: bytes, limits: ImageLimits, what: str) -> Image.Image:
    """Read the header and check it."""
    if len(content) > limits.max_bytes:
        raise ImageError(
            f"The {what} file has {len(content):,} bytes; at most {limits.max_bytes:,} are read.",
            hint="Use a smaller file, or ask the administrator to raise EACPS_MAX_IMAGE_BYTES.",
            code="image_too_large",
        )
    try:
        with warnings.catch_warnings():
            # Our own limit on pixels makes Pillow's warning redundant.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=ACCEPTED)
            _check_header(image, limits, what)
            _check_scans(image, content, limits, what)
    except Exception as error:
        raise _explained(error, what, limits) from None
    return image


def _loaded(image: Image.Image, what: str, limits: ImageLimits) -> Image.Image:
    """Decode the pixels."""
    try:
        image.load()
    except Exception as error:
        raise _explained(error, what, limits) from None
    return image


def _explained(error: Exception, what: str, limits: ImageLimits) -> ImageError:
    if isinstance(error, ImageError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return _too_many_pixels(what, limits)
    return ImageError(
        f"The {what} could not be read as an image ({type(error).__name__}).",
        hint=f"Use a complete file of one of these types: {', '.join(ACCEPTED)}.",
    )


def _check_header(image: Image.Image, limits: ImageLimits, what: str) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(what, limits, image.size)
    if min(width, height) < limits.min_side:
        raise ImageError(
            f"The {what} is {width}x{height} pixels; each side needs {limits.min_side} or more.",
            hint="Use a larger image or lower EACPS_MIN_IMAGE_SIDE.",
            code="image_too_small",
        )
    # Counting frames would read them all. MPO files are JPEGs with previews from a camera.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ImageError(
            f"The {what} is animated or has several pages.",
            hint="Use a single still image.",
            code="image_animated",
        )


def _check_scans(image: Image.Image, content: bytes, limits: ImageLimits, what: str) -> None:
    pieces = 1
    if image.format in ("JPEG", "MPO"):
        scans = _scans(content)
    elif image.format == "TIFF" and image.info.get("compression") in _JPEG_IN_TIFF:
        tags = getattr(image, "tag_v2", {})
        pieces = max(1, len(tags.get(_STRIP_OFFSETS) or tags.get(_TILE_OFFSETS) or ()))
        scans = content.count(bytes([0xFF, _START_OF_SCAN]))
    else:
        return
    affordable = MAX_SCANNED * limits.max_pixels // (image.width * image.height)
    if scans > pieces * max(MIN_SCANS, min(MAX_SCANS, affordable)):
        raise ImageError(
            f"The {what} is a JPEG with {scans:,} scans, which would take very long to read.",
            hint="Save it again with an image editor.",
            code="image_too_large",
        )


def _scans(content: bytes) -> int:
    """The number of scans of a JPEG, each of which goes over the whole image."""
    count = 0
    at = 2
    while found := _MARKER.search(content, at):
        marker = content[found.end() - 1]
        if marker == _END_OF_IMAGE:
            break
        count += marker == _START_OF_SCAN
        length = int.from_bytes(content[found.end() : found.end() + 2])
        at = found.end() + max(2, length)
    return count


def _too_many_pixels(
    what: str, limits: ImageLimits, size: tuple[int, int] | None = None
) -> ImageError:
    claimed = f"{size[0]}x{size[1]} pixels" if size else "far too many pixels"
    return ImageError(
        f"The {what} has {claimed}; at most {limits.max_pixels:,} pixels are read.",
        hint="Use a smaller image, or ask the administrator to raise EACPS_MAX_IMAGE_PIXELS.",
        code="image_too_large",
    )


def _oriented(image: Image.Image) -> Image.Image:
    try:
        # In place, because a copy of a large image takes as much memory again.
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:
        # Ignore the orientation in a broken EXIF block; the pixels are fine.
        return image
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    # In strips, because each step of a conversion takes as much memory as its whole input.
    converted = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        converted.paste(_strip_to_rgb(image.crop(box)), box)
    return converted


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        # Pillow clips 16-bit values to 255 instead of scaling them.
        return image.convert("I").point(lambda value: value / 257).convert("L").convert("RGB")
    if image.mode == "F":
        return image.convert("L").convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def fit_within(image: Image.Image, longer_side: int) -> Image.Image:
    """Shrink the image if its longer side exceeds `longer_side`."""
    scale = longer_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def keep_outside(source: Image.Image, edited: Image.Image, mask: Image.Image) -> Image.Image:
    """Combine the edit inside the mask with the exact source outside; feathered on the inside."""
    edited = edited.resize(source.size, Image.Resampling.LANCZOS)
    binary = mask.resize(source.size).point(lambda value: 255 if value >= 128 else 0)
    feather = max(1, round(min(source.size) / 100))
    soft = binary.filter(ImageFilter.GaussianBlur(feather))
    # The blur crosses the mask's edge; the darker of both keeps the outside unchanged.
    return Image.composite(edited, source, ImageChops.darker(binary, soft))


def thumbnail(image: Image.Image, side: int = 256) -> bytes:
    """A small JPEG for a card."""
    buffer = io.BytesIO()
    fit_within(image, side).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def encode_png(image: Image.Image, recipe: str = "", *, xmp: str = "") -> bytes:
    """Encode an image as PNG, with `recipe` (JSON) in its metadata under the key `eacps` and `xmp`
    as its XMP packet."""
    buffer = io.BytesIO()
    info = PngInfo()
    if recipe:
        info.add_itxt("eacps", recipe)
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp)
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
