"""Untrusted image files are either decoded or refused with a helpful message."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from eacps.errors import ImageError
from eacps.images import ImageLimits, decode, decode_mask, encode_png, fit_within, keep_outside

LIMITS = ImageLimits()


def file_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(size: tuple[int, int] = (32, 24)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert("RGB")


def bomb(side: int = 60_000) -> bytes:
    """A PNG whose header promises more pixels than any memory holds."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA", "I;16", "I", "F"])
def test_every_mode_becomes_rgb_with_the_same_picture(mode: str) -> None:
    grey = gradient().convert("L")
    if mode in ("I;16", "I"):
        values = (np.asarray(grey, dtype=np.uint16) * 257).astype(
            np.uint16 if mode == "I;16" else np.int32
        )
        image = Image.fromarray(values)
    else:
        image = grey.convert("RGBA").convert(mode) if mode != "F" else grey.convert("F")
    form = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"
    decoded = decode(file_of(image, form), LIMITS)
    assert decoded.mode == "RGB"
    # Black and white is all that mode 1 has.
    expected = image.convert("L") if mode == "1" else grey
    difference = np.abs(np.asarray(decoded.convert("L"), int) - np.asarray(expected, int))
    assert difference.max() <= 12


def test_transparency_is_shown_on_white() -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert decode(file_of(clear), LIMITS).getpixel((3, 3)) == (255, 255, 255)


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(file_of(image, "PNG", exif=exif), LIMITS)
    assert upright.size == (20, 40)
    # Turned clockwise: what was on the left is at the top.
    assert upright.getpixel((10, 5)) == (255, 0, 0)
    assert upright.getpixel((10, 35)) == (0, 0, 255)


def test_a_cameras_picture_may_carry_previews() -> None:
    previews = [Image.new("RGB", (16, 12))]
    content = file_of(gradient(), "MPO", save_all=True, append_images=previews)
    assert decode(content, LIMITS).size == (32, 24)


@pytest.mark.parametrize(
    ("content", "code", "names"),
    [
        (b"", "bad_image", "complete file"),
        (b"<html>not found</html>", "bad_image", "complete file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "bad_image", "complete file"),
        (file_of(Image.effect_noise((64, 64), 50))[:2000], "bad_image", "complete file"),
        (bomb(), "image_too_large", "EACPS_MAX_IMAGE_PIXELS"),
        (file_of(Image.new("RGB", (1, 1))), "image_too_small", "EACPS_MIN_IMAGE_SIDE"),
        (file_of(Image.new("RGB", (500, 2))), "image_too_small", "EACPS_MIN_IMAGE_SIDE"),
        (
            file_of(gradient(), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 24))]),
            "image_animated",
            "still image",
        ),
    ],
    ids=["empty", "html", "svg", "truncated", "bomb", "one pixel", "thin", "animated"],
)
def test_unusable_files_are_refused_with_advice(content: bytes, code: str, names: str) -> None:
    with pytest.raises(ImageError) as error:
        decode(content, LIMITS)
    assert error.value.code == code
    assert names in str(error.value)


def test_too_many_bytes_are_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match="EACPS_MAX_IMAGE_BYTES"):
        decode(b"x" * 2000, ImageLimits(max_bytes=1024))


def test_masks_come_from_white_or_from_alpha() -> None:
    painted = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    painted.paste((0, 0, 0, 255), (4, 4, 8, 8))
    assert decode_mask(file_of(painted), LIMITS).getbbox() == (4, 4, 8, 8)
    white = Image.new("L", (16, 16))
    white.paste(255, (2, 2, 6, 6))
    assert decode_mask(file_of(white), LIMITS).getbbox() == (2, 2, 6, 6)


def test_outside_the_mask_every_pixel_is_the_source() -> None:
    source = gradient((64, 48))
    edited = Image.new("RGB", (32, 24), "red")
    mask = Image.new("L", (64, 48))
    mask.paste(255, (16, 12, 48, 36))
    result = np.asarray(keep_outside(source, edited, mask))
    outside = np.asarray(mask) == 0
    assert (result[outside] == np.asarray(source)[outside]).all()
    assert tuple(result[24, 32]) == (255, 0, 0)


def test_fit_within_never_enlarges() -> None:
    assert fit_within(gradient((32, 24)), 100).size == (32, 24)
    assert fit_within(gradient((200, 100)), 50).size == (50, 25)


def test_the_recipe_is_readable_from_the_png() -> None:
    image = Image.open(io.BytesIO(encode_png(gradient(), '{"seed": 1, "who": "é"}')))
    assert image.info["eacps"] == '{"seed": 1, "who": "é"}'
