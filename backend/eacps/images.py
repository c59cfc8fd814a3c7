"""Decodes untrusted image files, and the pixel operations that several parts share."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageOps
from PIL.PngImagePlugin import PngInfo

from eacps.errors import ImageError

ACCEPTED = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
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
    image = _open(content, limits, what)
    return _to_rgb(_oriented(image))


def decode_mask(content: bytes, limits: ImageLimits) -> Image.Image:
    """Decode an untrusted file to a mask: white (if all black: opaque) parts are edited."""
    image = _oriented(_open(content, limits, "mask"))
    if "A" in image.getbands() and image.convert("L").getextrema() == (0, 0):
        return image.getchannel("A")
    return _to_rgb(image).convert("L")


def _open(content: bytes, limits: ImageLimits, what: str) -> Image.Image:
    if len(content) > limits.max_bytes:
        raise ImageError(
            f"The {what} file has {len(content):,} bytes; at most {limits.max_bytes:,} are read.",
            hint="Use a smaller file or raise EACPS_MAX_IMAGE_BYTES.",
            code="image_too_large",
        )
    try:
        with warnings.catch_warnings():
            # Our own limit on pixels makes Pillow's warning redundant.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=ACCEPTED)
            _check_header(image, limits, what)
            image.load()
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise _too_many_pixels(what, limits) from None
    except Exception as error:
        raise ImageError(
            f"The {what} could not be read as an image ({type(error).__name__}).",
            hint=f"Use a complete file of one of these types: {', '.join(ACCEPTED)}.",
        ) from None
    return image


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


def _too_many_pixels(
    what: str, limits: ImageLimits, size: tuple[int, int] | None = None
) -> ImageError:
    claimed = f"{size[0]}x{size[1]} pixels" if size else "far too many pixels"
    return ImageError(
        f"The {what} has {claimed}; at most {limits.max_pixels:,} pixels are read.",
        hint="Use a smaller image or raise EACPS_MAX_IMAGE_PIXELS.",
        code="image_too_large",
    )


def _oriented(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Ignore the orientation in a broken EXIF block; the pixels are fine.
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
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
