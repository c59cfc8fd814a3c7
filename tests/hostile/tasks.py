"""Hostile tasks and label configs: each is searched or refused in a sentence, nothing else."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any

from tests.hostile.requests import VALUES

FIELDS = ("image", "prompt", "mask", "reference", "route", "face_mapping", "task", "type")
ADDRESSES = (
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]:1/x.png",
    "http://127.0.0.1:1/x.png",
    "http://0x7f000001/x.png",
    "http://[",
    "http://user:pass@/",
    "//evil.example/x.png",
    "/data/upload/1/../../../../etc/passwd",
    "/data/local-files/?d=../../../etc/passwd",
    "/storage-data/uploaded/?filepath=../../x",
    "gopher://x/",
    "s3://bucket/key",
    "s3://",
    "data:",
    "data:,",
    "data:image/png;base64,====",
    "data:image/png;base64," + "A" * 100_000,
    "data:text/html," + "%00" * 10_000,
    "\x00",
    "http://" + "a" * 5_000,
    "http://" + "a." * 200 + "b/x.png",
    "http://\ud800/x.png",
    "http://xn--/x.png",
)
CONFIGS = (
    "",
    "<View/>",
    "<View",
    "<View></View></View>",
    "<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>",
    "<!DOCTYPE a [<!ENTITY a 'xxxxxxxxxx'>"
    + "".join(f"<!ENTITY a{n} '{('&a' + str(n - 1 if n else '') + ';') * 10}'>" for n in range(9))
    + "]><View>&a8;</View>",
    "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><View/>",
    "<View>" * 5_000 + "</View>" * 5_000,
    "<View>" + "<Image name='a' value='$image'/>" * 5_000 + "</View>",
    "<View><Choices name='route' toName='image'><Choice value='\x00'/></Choices></View>",
    "<View><BrushLabels name='mask' toName='image'/><Image name='image' value='$image'/></View>",
    "<View><RectangleLabels name='$image' toName='$image'/></View>",
    "<View " + "a='b' " * 5_000 + "/>",
    "<View>" + "&#x110000;" + "</View>",
    "<?xml version='1.0' encoding='utf-99'?><View/>",
)
RECTANGLES: tuple[dict[str, Any], ...] = (
    {"x": 10, "y": 10, "width": 50, "height": 50},
    {"x": -1e308, "y": 1e308, "width": 1e308, "height": -5},
    {"x": "a", "y": None, "width": [], "height": {}},
    {"rle": [1] * 1_000, "format": "rle"},
    {"rle": [10**9, -1, 2**70], "format": "rle"},
    {"points": [[0, 0], [100, 100], ["a", None]]},
    {"points": [[0, 0]] * 20_000},
    {"radiusX": -1, "radiusY": 10**400, "x": 0, "y": 0},
)


def hostile_tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and tasks."""
    image = picture_uri(b"not a picture")
    for address in ADDRESSES:
        yield f"image {address[:40]!r}", {"data": {"image": address, "prompt": "add a hat"}}
    for field in FIELDS:
        for value in VALUES:
            data = {"image": image, "prompt": "add a hat", field: value}
            yield f"{field} {str(value)[:30]!r}", {"data": data}
    for value in RECTANGLES:
        yield f"region {str(value)[:30]!r}", {"data": {"image": image}, **_annotated(value)}


def random_tasks(
    count: int, seed: int, images: list[bytes]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Tasks with several wrong parts, each with a label config."""
    chance = random.Random(seed)
    for _ in range(count):
        data: dict[str, Any] = {"prompt": "add a hat"}
        for field in ("image", *chance.sample(FIELDS, chance.randint(0, 3))):
            choice = chance.random()
            if field in ("image", "mask", "reference") and choice < 0.7:
                data[field] = picture_uri(spoiled(chance.choice(images), chance))
            elif choice < 0.85:
                data[field] = chance.choice(ADDRESSES)
            else:
                data[field] = chance.choice(VALUES)
        task = {"id": chance.choice(VALUES), "data": data}
        if chance.random() < 0.4:
            task |= _annotated(chance.choice(RECTANGLES))
        yield task, random_config(chance)


def random_config(chance: random.Random) -> str:
    """A label config, mostly with something cut out or put in."""
    config = chance.choice(CONFIGS)
    for _ in range(chance.randint(0, 3)):
        place = chance.randrange(len(config) + 1)
        put = chance.choice(["", "<", ">", "'", "&", "\x00", "<View>", "$", "]]>", "\ud800"])
        config = config[:place] + put + config[place + chance.randint(0, 9) :]
    return config


def spoiled(content: bytes, chance: random.Random) -> bytes:
    """A file, mostly with some bytes replaced, repeated, or cut off."""
    whole = bytearray(content)
    for _ in range(chance.randint(0, 4)):
        if not whole:
            break
        place = chance.randrange(len(whole))
        kind = chance.random()
        if kind < 0.6:
            whole[place] = chance.randrange(256)
        elif kind < 0.8:
            whole[place:place] = whole[place : place + chance.randint(1, 64)]
        else:
            del whole[place : place + chance.randint(1, len(whole))]
    return bytes(whole)


def picture_uri(content: bytes) -> str:
    """A data: URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _annotated(value: dict[str, Any]) -> dict[str, Any]:
    region = {
        "type": "rectanglelabels", "from_name": "mask", "to_name": "image",
        "original_width": 64, "original_height": 48, "value": value,
    }  # fmt: skip
    return {"annotations": [{"result": [region, {**region, "type": "brushlabels"}]}]}
