"""Finds the regions and choices of a task. All values are untrusted JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

MAX_REGIONS = 500
MAX_CONFIG_CHARACTERS = 1_000_000
SHAPES = ("rectangle", "ellipse", "polygon", "brush")
_LABEL_KEYS = (*(f"{shape}labels" for shape in SHAPES), "labels", "choices")


@dataclass(frozen=True)
class Region:
    """An item of a `result` list, and where it was found, in words for a card."""

    content: Mapping[str, Any]
    where: str

    @property
    def value(self) -> Mapping[str, Any]:
        """The region's values; empty if they are not an object."""
        return mapping(self.content.get("value"))

    @property
    def kind(self) -> str:
        """`rectangle`, `ellipse`, `polygon`, `brush`, `choices`, `labels`, ... or empty."""
        name = text(self.content.get("type")).lower()
        return name.removesuffix("labels") or name

    @property
    def labels(self) -> tuple[str, ...]:
        """The region's labels and choices."""
        return tuple(
            word
            for key in _LABEL_KEYS
            for word in sequence(self.value.get(key))
            if isinstance(word, str)
        )


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, if it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """The value, if it is a list; else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """The value, if it is a string; else an empty one."""
    return value if isinstance(value, str) else ""


def context_regions(context: Any) -> list[Region]:
    """The regions in the context of an interactive request."""
    return _regions(mapping(context).get("result"), "the open annotation")


def draft_regions(task: Mapping[str, Any]) -> list[Region]:
    """The regions of the newest draft."""
    drafts = [mapping(draft) for draft in sequence(task.get("drafts"))]
    return _regions(_newest(drafts).get("result"), "the draft")


def annotation_regions(task: Mapping[str, Any]) -> list[Region]:
    """The regions of the newest annotation that was not skipped."""
    annotations = [
        mapping(annotation)
        for annotation in sequence(task.get("annotations"))
        if not mapping(annotation).get("was_cancelled")
    ]
    newest = _newest(annotations)
    number = newest.get("id")
    where = f"annotation {number}" if isinstance(number, int) else "the annotation"
    return _regions(newest.get("result"), where)


def prediction_regions(task: Mapping[str, Any]) -> list[Region]:
    """The regions of all earlier predictions."""
    return [
        region
        for prediction in sequence(task.get("predictions"))[:MAX_REGIONS]
        for region in _regions(mapping(prediction).get("result"), "an earlier prediction")
    ]


def typed_text(task: Mapping[str, Any], context: Any, name: str) -> str:
    """What was typed into the TextArea of this name, in the open annotation, the draft, or the
    newest annotation."""
    for found in (context_regions(context), draft_regions(task), annotation_regions(task)):
        for region in found:
            if region.kind == "textarea" and region.content.get("from_name") == name:
                lines = [line for line in sequence(region.value.get("text")) if text(line)]
                if typed := "\n".join(lines).strip():
                    return typed
    return ""


def parse_config(label_config: Any) -> ElementTree.Element | None:
    """Parse a label config, or return None if it is unsafe or invalid."""
    source = text(label_config)
    # Label configs need no DOCTYPE, and XML bombs require one.
    if not source or len(source) > MAX_CONFIG_CHARACTERS or "<!doctype" in source.lower():
        return None
    try:
        return ElementTree.fromstring(source)  # noqa: S314
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None


def image_tags(label_config: Any, image_field: str) -> frozenset[str]:
    """The names of the Image tags that show the source image; empty if unknown."""
    return _image_tags(text(label_config), image_field)


def labels_of_tags(label_config: Any) -> Mapping[str, tuple[str, ...]]:
    """The labels of each tag by which regions are drawn."""
    return _labels_of_tags(text(label_config))


def attributes_of_views(label_config: Any) -> Iterator[tuple[str, str]]:
    """The attributes of all View tags, in order."""
    return (pair for tag in _elements(label_config) if tag.tag == "View" for pair in tag.items())


def tags_of(label_config: Any) -> Iterator[tuple[str, Mapping[str, str]]]:
    """All tags of a label config with their attributes, in order."""
    return ((tag.tag, tag.attrib) for tag in _elements(label_config))


def default_choices(label_config: Any) -> list[str]:
    """The choices that the label config selects by default."""
    return list(_default_choices(text(label_config)))


# Cached, because a request may contain thousands of tasks with one large config.
@lru_cache(maxsize=8)
def _image_tags(label_config: str, image_field: str) -> frozenset[str]:
    return frozenset(
        tag.get("name", "")
        for tag in _elements(label_config)
        if tag.tag == "Image" and tag.get("value") == f"${image_field}"
    )


@lru_cache(maxsize=8)
def _labels_of_tags(label_config: str) -> Mapping[str, tuple[str, ...]]:
    return {
        tag.get("name", ""): tuple(
            label.get("alias", "") or label.get("value", "") for label in tag.iter("Label")
        )
        for tag in _elements(label_config)
        if tag.tag.endswith("Labels") and tag.get("name")
    }


@lru_cache(maxsize=8)
def _default_choices(label_config: str) -> tuple[str, ...]:
    found: list[str] = []
    for tag in _elements(label_config):
        if tag.tag == "Choice" and tag.get("selected", "").lower() == "true":
            found.append(tag.get("value", ""))
        elif tag.tag in ("Choices", "View") and tag.get("default"):
            found.append(tag.get("default", ""))
    return tuple(found)


def _elements(label_config: Any) -> Iterator[ElementTree.Element]:
    root = parse_config(label_config)
    return iter(()) if root is None else root.iter()


def _regions(result: Any, where: str) -> list[Region]:
    found = sequence(result)[:MAX_REGIONS]
    return [Region(content, where) for content in found if isinstance(content, dict)]


def _newest(items: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    def age(item: Mapping[str, Any]) -> tuple[str, int]:
        number = item.get("id")
        stamp = text(item.get("updated_at")) or text(item.get("created_at"))
        return (stamp, number if isinstance(number, int) else -1)

    return max(items, key=age, default={})
