"""Hostile image files, small or made here. None may crash, hang or be decoded without limits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

SCAN = b"\xff\xda"


def saved(mode: str, kind: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(count: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    jpeg = saved("RGB", "JPEG", size, progressive=True, quality=20)
    last = jpeg[jpeg.rindex(SCAN) : -2]
    return jpeg[:-2] + last * count + jpeg[-2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, pixels: bytes, *more: bytes, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def hostile_images() -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    zeros = zlib.compress(bytes(20_000_000), 9)
    yield "empty", b""
    yield "text", b"<svg onload=alert(1)>"
    yield "png of four billion columns", png(0xFFFFFFF0, 1, b"")
    yield "png of 50,000 x 50,000", png(50_000, 50_000, zeros)
    yield "png without pixels", png(64, 64, b"")
    yield "png with too many pixels", png(64, 64, zeros)
    yield "png with a text bomb", png(64, 64, zeros, chunk(b"zTXt", b"a\0\0" + zeros))
    yield "png with a profile bomb", png(64, 64, zeros, chunk(b"iCCP", b"a\0\0" + zeros))
    yield "png of a strange depth", png(64, 64, zeros, depth=3)
    yield "png of a single line", png(5_000_000, 1, zeros)
    yield (
        "webp of another kind",
        saved("RGB", "WEBP", lossless=True).replace(b"VP8L", b"VP8X", 1),
    )
    yield "jpeg of many scans", many_scans(5_000)
    yield (
        "jpeg of many scans, sequential",
        ((jpeg := saved("RGB", "JPEG"))[:-2] + jpeg[jpeg.rindex(SCAN) : -2] * 500 + jpeg[-2:]),
    )
    yield "tiff of many scans", _tiff_of_scans()
    yield "animation", _animation()
    yield (
        "gif of a lying size",
        saved("P", "GIF").replace(
            struct.pack("<HH", 64, 48), struct.pack("<HH", 65_535, 65_535), 1
        ),
    )
    yield "bmp of a negative size", _bmp(-5, -2_000_000_000)
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        whole = saved("RGB", kind)
        for share in (0.1, 0.5, 0.95):
            yield f"{kind} cut at {share}", whole[: int(len(whole) * share)]
        for step in (3, 17, 61):
            yield (
                f"{kind} with every {step}th byte inverted",
                bytes(
                    255 - byte if index % step == 0 and index > 30 else byte
                    for index, byte in enumerate(whole)
                ),
            )


def _tiff_of_scans() -> bytes:
    tiff = saved("RGB", "TIFF", compression="jpeg")
    # What follows the directory is not looked at; the number of scans in the file is.
    return tiff + SCAN * 5_000


def _animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:] * 200)
    return buffer.getvalue()


def _bmp(width: int, height: int) -> bytes:
    bitmap = bytearray(saved("RGB", "BMP"))
    bitmap[18:26] = struct.pack("<ii", width, height)
    return bytes(bitmap)
