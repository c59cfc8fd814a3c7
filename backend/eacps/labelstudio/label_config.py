"""The label config of the review screen, and the names of its tags."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import canonicalize
from xml.sax.saxutils import escape, quoteattr

from eacps.labelstudio.panel.addresses import panel_address
from eacps.labelstudio.tasks.columns import columns_of
from eacps.labelstudio.tasks.regions import attributes_of_views, parse_config
from eacps.settings import Settings

RANKER = "rank"
CANDIDATES = "cands"
VERDICT = "verdict"
VERDICTS = ("Accept best", "Another is better", "None acceptable")
COMMENT = "comment"
IMAGE = "img"
_ADDRESS = "PANEL_ADDRESS"
_PANEL = re.compile(r'\s*<View className="panel">.*?</View>', re.DOTALL)
_CHOICE = re.compile(r'\s+eacps_\w+="[^"]*"')
_VERSIONS = ("label_config.xml", "label_config_0.2.xml")
"""The label configs of this version, and of 0.1 and 0.2."""


def label_config(settings: Settings | None = None, backend_url: str = "", like: str = "") -> str:
    """The review label config, which `eacps connect` installs.

    With settings, it uses their names of the task's data fields, and contains the panel at its
    address for browsers, which may follow from the backend's. `like` is the label config that it
    replaces, or is added to: it shows the same fields, and keeps what the project chose.
    """
    config = _config("label_config.xml", settings, like)
    if settings is None or settings.panel == "off" or not settings.label_studio_url:
        return _PANEL.sub("", config)
    # Single quotes around it, and a config is XML.
    address = escape(panel_address(settings, backend_url), {"'": "%27", '"': "%22"})
    return config.replace(_ADDRESS, address)


def is_unchanged(config: str) -> bool:
    """Whether this is a review label config as this or an earlier version installed it, possibly
    for other names of the task's data fields, and with the panel elsewhere. It may be replaced even
    if it has annotations: all its tags and labels are in the current one."""
    given = _without_fields(config)
    return any(given == _without_fields(_config(file, None)) for file in _VERSIONS)


def _config(file: str, settings: Settings | None, like: str = "") -> str:
    config = Path(__file__).with_name(file).read_text(encoding="utf-8")
    if settings is None:
        return config
    seen = settings.changed(columns_of({}, like, {}, settings))
    config = config.replace('"$image"', quoteattr(f"${seen.image_field}"))
    config = config.replace('"$prompt"', quoteattr(f"${seen.instruction_field}"))
    chosen = dict(reversed([pair for pair in attributes_of_views(like) if _is_choice(pair[0])]))
    added = "".join(f" {name}={quoteattr(value)}" for name, value in reversed(chosen.items()))
    return config.replace("<View", f"<View{added}", 1)


def _is_choice(name: str) -> bool:
    return name.lower().startswith("eacps_")


def hides_unnamed_cards(config: Any) -> bool:
    """Whether a screen shows no card that a ranking does not name: its ranker has a bucket by
    default. Without one, the ranker shows such cards in a column of their own."""
    root = parse_config(config)
    rankers = [] if root is None else root.iter("Ranker")
    return any(
        bucket.get("default", "").lower() == "true"
        for ranker in rankers
        if ranker.get("name") == RANKER
        for bucket in ranker.iter("Bucket")
    )


def same_config(one: str, other: str) -> bool:
    """Whether two label configs are equal except for white space between tags, and the order of
    attributes."""
    return _normal(one) == _normal(other)


def _without_fields(config: str) -> str:
    plain = _CHOICE.sub("", _normal(_PANEL.sub("", config)))
    return re.sub(r'"\$\w+"', '"$"', plain)


def _normal(config: str) -> str:
    stripped = "".join(line.strip() for line in config.splitlines())
    # Without a parser for a text that is no label config.
    return canonicalize(stripped) if parse_config(stripped) is not None else stripped
