"""Turns drawn regions into mask images, in which white is edited."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

from PIL import Image, ImageChops, ImageDraw

from eacps.errors import TaskError
from eacps.images import ImageLimits
from eacps.labelstudio.tasks import regions
from eacps.labelstudio.tasks.regions import SHAPES, Region, sequence, text
from eacps.labelstudio.tasks.routing import MAX_LABEL_CHARACTERS, route_of_label
from eacps.settings import Settings

MAX_POINTS = 20_000
MAX_RLE_BYTES = 1_000_000
"""For all strokes of a task, because decoding takes seconds and hundreds of megabytes."""
ELLIPSE_POINTS = 180
MAX_SINGLE_MASKS = 16
"""More shapes count as a single mask, not as one per face."""
_KEPT = ("type", "original_width", "original_height")
_KEPT_VALUES = (
    *("x", "y", "width", "height", "rotation", "radiusX", "radiusY"),
    *("points", "rle", "format"),
)
Point = tuple[float, float]


def mask_regions(
    task: Mapping[str, Any], label_config: Any, context: Any, settings: Settings
) -> list[dict[str, Any]]:
    """The shapes that mark where to edit, without irrelevant fields.

    Uses the first of these that has such shapes: the open annotation, the draft, the annotation.
    Shapes that describe the picture, such as boxes around objects, mark nothing.
    """
    images = regions.image_tags(label_config, settings.image_field)
    marking = _marking_tags(label_config, settings)
    for found in (
        regions.context_regions(context),
        regions.draft_regions(task),
        regions.annotation_regions(task),
    ):
        labels = _labels_by_region(found)
        shapes = [
            region
            for region in found
            if _on_source_image(region, images)
            and _marks(region, labels[text(region.content.get("id"))], marking, settings)
        ]
        if shapes:
            return [_relevant_fields(region) for region in shapes]
    return []


def draw_mask(
    shapes: Sequence[Mapping[str, Any]], size: tuple[int, int], limits: ImageLimits
) -> Image.Image:
    """The union of the shapes as a mask of the given size; raises TaskError."""
    return union(draw_masks(shapes, size, limits))


def draw_masks(
    shapes: Sequence[Mapping[str, Any]], size: tuple[int, int], limits: ImageLimits
) -> list[Image.Image]:
    """Each shape as a mask, in drawing order; empty ones are left out."""
    drawn = [Region(shape, "") for shape in shapes]
    _require_simple(drawn)
    if len(drawn) > MAX_SINGLE_MASKS:
        masks = [_drawn(drawn, size, limits)]
    else:
        masks = [_drawn([region], size, limits) for region in drawn]
    visible = [mask for mask in masks if mask.getbbox() is not None]
    if not visible:
        raise TaskError(
            "The regions on the image do not cover any of its pixels.",
            hint="Draw the region over the part to edit, or delete it to edit everywhere.",
            code="empty_mask",
        )
    return visible


def union(masks: Sequence[Image.Image]) -> Image.Image:
    """The union of masks."""
    return reduce(ImageChops.lighter, masks)


def _drawn(regions: Sequence[Region], size: tuple[int, int], limits: ImageLimits) -> Image.Image:
    mask = Image.new("L", size, 0)
    for region in regions:
        try:
            mask = _with(region, mask, limits)
        except TaskError:
            raise
        except Exception:
            raise TaskError(
                f"A {region.kind} on the image could not be read as a mask.",
                hint="Delete that region and draw it again.",
                code="bad_mask",
            ) from None
    return mask


def _marking_tags(label_config: Any, settings: Settings) -> frozenset[str]:
    """The tags of a label config that have a label for masks."""
    of_tags = regions.labels_of_tags(label_config)
    return frozenset(
        name for name, labels in of_tags.items() if any(_is_mark(one, settings) for one in labels)
    )


def _labels_by_region(found: Sequence[Region]) -> Mapping[str, list[str]]:
    """The labels and choices of each region by its id: they may stand in several results."""
    labels: dict[str, list[str]] = defaultdict(list)
    for region in found:
        labels[text(region.content.get("id"))].extend(region.labels)
    return labels


def _marks(
    region: Region, of_its_id: Sequence[str], marking: frozenset[str], settings: Settings
) -> bool:
    labels = [*region.labels, *(of_its_id if text(region.content.get("id")) else ())]
    if labels:
        return any(_is_mark(label, settings) for label in labels)
    # Where the screen has tags for masks, only they mark.
    return not marking or region.content.get("from_name") in (None, *marking)


def _is_mark(label: str, settings: Settings) -> bool:
    normal = " ".join(label[:MAX_LABEL_CHARACTERS].casefold().split())
    patterns = (pattern.casefold() for pattern in settings.mask_labels)
    if any(fnmatchcase(normal, pattern.replace("[", "[[]")) for pattern in patterns):
        return True
    return route_of_label(label, settings) is not None


def _on_source_image(region: Region, tags: frozenset[str]) -> bool:
    if region.kind not in SHAPES:
        return False
    return not tags or region.content.get("to_name") in tags


def _relevant_fields(region: Region) -> dict[str, Any]:
    kept: dict[str, Any] = {key: region.content[key] for key in _KEPT if key in region.content}
    value = region.value
    return kept | {"value": {key: value[key] for key in _KEPT_VALUES if key in value}}


def _require_simple(shapes: Sequence[Region]) -> None:
    points = sum(len(sequence(shape.value.get("points"))) for shape in shapes)
    rle = sum(len(sequence(shape.value.get("rle"))) for shape in shapes)
    if points > MAX_POINTS or rle > MAX_RLE_BYTES:
        raise TaskError(
            "The regions on the image are too detailed.",
            hint="Draw fewer or simpler regions, or add a mask image to the task.",
            code="bad_mask",
        )


def _with(region: Region, mask: Image.Image, limits: ImageLimits) -> Image.Image:
    if region.kind == "brush":
        return ImageChops.lighter(mask, _brush(region, mask.size, limits))
    width, height = mask.size
    outline = [(x / 100 * width, y / 100 * height) for x, y in _points(region)]
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    return mask


def _points(region: Region) -> list[Point]:
    value = region.value
    if region.kind == "polygon":
        return [(_number(x), _number(y)) for x, y in sequence(value["points"])]
    # Rotate in pixels, because percentages are not square in a wide image.
    aspect = _aspect(region.content)
    x, y = _number(value["x"]), _number(value["y"])
    angle = math.radians(_number(value.get("rotation") or 0))
    if region.kind == "ellipse":
        offsets = _ellipse(_number(value["radiusX"]), _number(value["radiusY"]))
    else:
        width, height = _number(value["width"]), _number(value["height"])
        offsets = [(0, 0), (width, 0), (width, height), (0, height)]
    return [_rotated((x, y), offset, angle, aspect) for offset in offsets]


def _ellipse(radius_x: float, radius_y: float) -> list[Point]:
    turns = [2 * math.pi * step / ELLIPSE_POINTS for step in range(ELLIPSE_POINTS)]
    return [(radius_x * math.cos(turn), radius_y * math.sin(turn)) for turn in turns]


def _rotated(centre: Point, offset: Point, angle: float, aspect: float) -> Point:
    dx, dy = offset[0] * aspect, offset[1]
    turned_x = dx * math.cos(angle) - dy * math.sin(angle)
    turned_y = dx * math.sin(angle) + dy * math.cos(angle)
    return (centre[0] + turned_x / aspect, centre[1] + turned_y)


def _aspect(content: Mapping[str, Any]) -> float:
    width, height = content.get("original_width"), content.get("original_height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width / height
    return 1.0


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a coordinate is not a number")
    if not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError("a coordinate is out of range")
    return float(value)


def _brush(region: Region, size: tuple[int, int], limits: ImageLimits) -> Image.Image:
    rle = sequence(region.value.get("rle"))
    width, height = region.content["original_width"], region.content["original_height"]
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        raise TypeError("a brush stroke without the size of its image")
    # The first four bytes say how much the decoder allocates, so check them first.
    announced = int.from_bytes(bytes(rle[:4]), "big")
    if announced != width * height * 4 or width * height > limits.max_pixels:
        raise TaskError(
            "The size of a brush stroke does not match its image.",
            hint="Delete the brush stroke and draw it again.",
            code="bad_mask",
        )
    return _decoded(bytes(rle), (width, height)).resize(size, Image.Resampling.NEAREST)


def _decoded(rle: bytes, size: tuple[int, int]) -> Image.Image:
    from label_studio_sdk.converter.brush import decode_rle

    channels = decode_rle(list(rle)).reshape(size[1], size[0], 4)
    return Image.fromarray(channels[:, :, 3].copy(), "L").point(lambda value: 255 * (value >= 128))
