"""Which fields of a task's data hold its picture, its instruction and so on: as the project's label
config shows them, or else as the server's settings say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from eacps.labelstudio.tasks.regions import tags_of, text
from eacps.settings import Settings

COLUMNS: Final = (
    *("image_field", "instruction_field", "mask_field", "reference_field", "face_mapping_field"),
)
_FIELD: Final = re.compile(r"\$([^\s$<>\"'&{}\[\]]{1,100})")
_INSTRUCTION_NAMES: Final = ("instruction", "prompt")
_SHOWS_TEXT: Final = ("Header", "Text", "HyperText", "Markdown")
_OTHERS: Final = ("mask", "reference")
_OURS: Final = ("report_md", "gallery", "candidates", "panel")


def is_column(name: str) -> bool:
    """Whether this is a setting that names a field."""
    return name in COLUMNS


def columns_of(
    data: Mapping[str, Any], label_config: Any, named: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """The fields that are not those of the server's settings. `named` are those that the project or
    the task names itself."""
    shown = _shown(text(label_config), settings.image_field, settings.instruction_field)
    found = dict(named)
    for setting, column in shown:
        own = getattr(settings, setting)
        # Tasks with the server's fields keep them, as before.
        if setting not in found and not (_is_empty(data, column) and not _is_empty(data, own)):
            found[setting] = column
    return {
        setting: column.removeprefix("$")
        for setting, column in found.items()
        if column.removeprefix("$") != getattr(settings, setting)
    }


def _is_empty(data: Mapping[str, Any], name: str) -> bool:
    return data.get(name) in (None, "")


@lru_cache(maxsize=16)
def _shown(
    label_config: str, image_field: str, instruction_field: str
) -> tuple[tuple[str, str], ...]:
    """The fields that the label config shows, by setting. One that shows the server's own field
    means that one, whatever else it shows."""
    tags = [
        (tag, attributes.get("name", ""), field[1])
        for tag, attributes in tags_of(label_config)
        if (field := _FIELD.fullmatch(attributes.get("value", "").strip()))
        and field[1] not in _OURS
    ]
    found: dict[str, str] = {}
    if image_field not in {field for tag, _, field in tags if tag == "Image"}:
        found |= dict(_named(tags, "image_field", ("img", "image"), ("Image",), single=True))
    if instruction_field not in {field for tag, _, field in tags if tag in _SHOWS_TEXT}:
        found |= dict(_named(tags, "instruction_field", _INSTRUCTION_NAMES, _SHOWS_TEXT))
    found |= dict(_named(tags, "mask_field", ("mask",), ("Image",), only_named=True))
    found |= dict(_named(tags, "reference_field", ("reference",), ("Image",), only_named=True))
    return tuple(found.items())


def _named(
    tags: list[tuple[str, str, str]],
    setting: str,
    names: tuple[str, ...],
    kinds: tuple[str, ...],
    *,
    single: bool = False,
    only_named: bool = False,
) -> Iterator[tuple[str, str]]:
    """The field of the first tag with one of these names; else of the first tag of these kinds."""
    of_kind = [(name, field) for tag, name, field in tags if tag in kinds]
    called = [field for wanted in names for name, field in of_kind if name == wanted]
    others = [] if only_named else [field for name, field in of_kind if name not in _OTHERS]
    if single and len(set(others)) > 1:
        # Which of several pictures is to be edited cannot be guessed.
        others = []
    if found := called or others:
        yield setting, found[0]
