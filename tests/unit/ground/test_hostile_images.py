"""The corpus of hostile images: a picture or a sentence, never anything else."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image

from eacps import images
from eacps.errors import ImageError
from eacps.images import ImageLimits, decode, decode_mask
from tests.hostile.images import hostile_images, many_scans, saved
from tests.patience import PATIENCE

HOSTILE = dict(hostile_images())
LIMITS = ImageLimits(max_pixels=1_000_000)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_a_picture_or_a_sentence(name: str) -> None:
    for read in (decode, decode_mask):
        try:
            image = read(HOSTILE[name], LIMITS)
        except ImageError:
            continue
        assert image.width * image.height <= LIMITS.max_pixels


@pytest.mark.parametrize("name", [name for name in HOSTILE if "many scans" in name])
def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(images, "_loaded", decoded)
    with pytest.raises(ImageError, match="scans"):
        decode(HOSTILE[name], LIMITS)


def test_ordinary_jpegs_are_read() -> None:
    thumbnail = saved("RGB", "JPEG", progressive=True)
    exif = b"Exif\0\0" + thumbnail * 20
    for given in (
        many_scans(0),
        many_scans(30),
        saved("L", "JPEG", progressive=True),
        saved("CMYK", "JPEG", progressive=True),
        # Scans of a preview within the metadata are not scans of the image.
        saved("RGB", "JPEG", progressive=True, comment=thumbnail * 3, exif=exif),
    ):
        assert decode(given, LIMITS).mode == "RGB"


def test_the_larger_the_image_the_fewer_scans_it_may_have() -> None:
    given = many_scans(30)
    assert decode(given, ImageLimits(max_pixels=1_000_000))
    with pytest.raises(ImageError, match="scans"):
        decode(given, ImageLimits(max_pixels=64 * 48))
    # As many as cameras write are always read.
    assert decode(many_scans(0), ImageLimits(max_pixels=64 * 48))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I", "F"])
def test_a_conversion_in_strips_is_that_of_the_whole(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.effect_noise((37, 53), 90)
    image = noise.convert("L").convert("I") if mode == "I;16" else noise
    image = image.convert(mode)
    if mode in ("LA", "RGBA", "PA"):
        image.putalpha(Image.effect_noise((37, 53), 90))
    if mode in ("P", "L", "RGB"):
        image.info["transparency"] = (7, 7, 7) if mode == "RGB" else 7
    monkeypatch.setattr(images, "STRIP_PIXELS", 1)
    strips = images._to_rgb(image)
    monkeypatch.setattr(images, "STRIP_PIXELS", 10**9)
    assert strips.tobytes() == images._to_rgb(image).tobytes()


MEMORY = """
import io, sys
from PIL import Image
from eacps.images import ImageLimits, decode
from pathlib import Path
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
buffer = io.BytesIO()
Image.new("RGBA", (3000, 3000), (255, 0, 0, 9)).save(buffer, "WEBP", lossless=True)
content = buffer.getvalue()
del buffer
Path("/proc/self/clear_refs").write_text("5")
before = most()
image = decode(content, ImageLimits())
print(len(content), (most() - before) * 2**20 / (3000 * 3000))
"""


def test_a_small_file_does_not_take_much_memory_per_pixel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    size, per_pixel = done.stdout.split()
    assert int(size) < 5_000
    assert float(per_pixel) < 20


def test_a_picture_keeps_its_pixels() -> None:
    noise = Image.effect_noise((64, 48), 60).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    assert decode(buffer.getvalue(), LIMITS).tobytes() == noise.tobytes()
