"""Marks images with swapped faces as synthetic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

from eacps.faces import content_credentials
from eacps.faces.protocol import FaceEngine
from eacps.images import encode_png
from eacps.settings import Settings

WORDS: Final = "synthetic face"

XMP: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    f'Iptc4xmpExt:DigitalSourceType="{content_credentials.SOURCE_TYPE}">'
    f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{WORDS}</rdf:li></rdf:Alt>'
    "</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)
"""An XMP packet with the IPTC's digital source type, which viewers and archives read."""


def marked(
    image: Image.Image, recipe: Mapping[str, Any], engine: FaceEngine, settings: Settings
) -> tuple[Image.Image, bytes]:
    """Mark an image; returns the image to show, and a PNG with its origin in the metadata."""
    if settings.face_mark == "visible":
        image = visibly_marked(image)
    told = json.dumps({**recipe, **provenance(engine)})
    png = encode_png(image, told, xmp=XMP)
    if content_credentials.wanted(settings):
        made_by = f"eacps, face engine {engine.name}"
        png = content_credentials.signed(png, settings, made_by=made_by)
    return image, png


def provenance(engine: FaceEngine) -> dict[str, Any]:
    """The metadata about the origin of a swapped image."""
    return {
        "synthetic": WORDS,
        "face_engine": engine.name,
        "face_models": list(engine.models),
        "face_providers": list(engine.providers),
    }


def visibly_marked(image: Image.Image) -> Image.Image:
    """Write a line into the lower left corner of the image."""
    size = max(10, round(min(image.size) / 32))
    font = ImageFont.load_default(size)
    marked = image.convert("RGB")
    pencil = ImageDraw.Draw(marked)
    margin = size // 2
    corner = (margin, image.height - margin)
    outline = max(1, size // 12)
    pencil.text(
        corner, WORDS, "white", font, anchor="ld", stroke_width=outline, stroke_fill="black"
    )
    return marked
