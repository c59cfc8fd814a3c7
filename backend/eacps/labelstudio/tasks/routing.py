"""Chooses a task's route from its data, meta, regions, or the label config's defaults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, TypeVar

from eacps.domain import ROUTES, Route
from eacps.labelstudio.tasks import regions
from eacps.labelstudio.tasks.regions import Region, mapping, text
from eacps.settings import Settings

T = TypeVar("T")
MAX_LABEL_CHARACTERS = 200
DEFAULT_REASON = "default: the task does not specify a route"
UNKNOWN_ROUTE = "default: “"
"""How the reason for a route begins if the task names a route that does not exist."""
ROUTE_FIELD = "eacps_route"
"""Names the route whatever EACPS_ROUTE_FIELDS are."""
_MARK = "edit here"
"""The review screen's label of masks, which may be drawn for any route."""
_META_FIELDS = ("label", "labels", "tag", "tags", "choices")
_ARTICLES = {"ellipse": "an ellipse", "rectangle": "a rectangle", "polygon": "a polygon"}


@dataclass(frozen=True)
class RouteChoice:
    """A route and the reason for it, in words."""

    route: Route
    reason: str


@dataclass(frozen=True)
class Clue:
    """A label of a task, and where it is, in words."""

    label: str
    where: str


def choose_route(
    task: Any,
    label_config: Any,
    context: Any,
    settings: Settings,
    project_route: str = "",
    clues: Sequence[Clue] | None = None,
) -> RouteChoice:
    """The route of the first matching clue, or `edit` if there is none. Never raises.

    `project_route` is what the project says about tasks that say nothing themselves; `clues` are
    those of the task, if they are known.
    """
    of_task = clues_of(task, context, settings) if clues is None else clues
    unknown = ""
    project = [Clue(project_route, "set for the project")] if project_route else []
    for clue in chain(of_task, project, _config_clues(label_config)):
        if strategy_of_label(clue.label, settings):
            continue
        route = route_of_label(clue.label, settings)
        shown = f"“{_shortened(clue.label)}” {clue.where}"
        if route:
            return RouteChoice(route, f"label {shown}")
        if not unknown and clue.where.startswith("in the task's field"):
            unknown = shown
    if unknown:
        return RouteChoice(
            "edit", f"{UNKNOWN_ROUTE}{unknown[1:]} matches no pattern of EACPS_ROUTE_LABELS"
        )
    return RouteChoice("edit", DEFAULT_REASON)


def route_of_label(label: str, settings: Settings) -> Route | None:
    """The route of a label; the longest matching pattern wins."""
    found = _matching(label, settings.route_labels)
    return found or next((route for route in ROUTES if route == _normal(label)), None)


def labelled_strategy(clues: Iterable[Clue], settings: Settings) -> str:
    """The strategy that the first matching label of a task asks for, or an empty string."""
    return next(filter(None, (strategy_of_label(clue.label, settings) for clue in clues)), "")


def default_strategy(label_config: Any, settings: Settings) -> str:
    """The strategy that the label config selects by default, or an empty string."""
    return labelled_strategy(_config_clues(label_config), settings)


def strategy_of_label(label: str, settings: Settings) -> str:
    """The strategy that a label asks for, or an empty string."""
    return _matching(label, settings.strategy_labels) or ""


def _matching(label: str, patterns: Mapping[str, T]) -> T | None:
    normal = _normal(label)
    matching = [
        (len(pattern), pattern)
        for pattern in patterns
        if fnmatchcase(normal, pattern.casefold().replace("[", "[[]"))
    ]
    return patterns[max(matching)[1]] if matching else None


def clues_of(task: Any, context: Any, settings: Settings) -> list[Clue]:
    """The labels of a task, those that count most first."""
    content = mapping(task)
    return [
        *_data_clues(content, settings),
        *_meta_clues(content, settings),
        *_region_clues(content, context),
    ]


def _normal(label: str) -> str:
    return " ".join(label[:MAX_LABEL_CHARACTERS].casefold().split())


def _data_clues(task: Mapping[str, Any], settings: Settings) -> Iterator[Clue]:
    data = mapping(task.get("data"))
    for field in (ROUTE_FIELD, *settings.route_fields):
        for label in _texts(data.get(field)):
            yield Clue(label, f"in the task's field `{field}`")


def _meta_clues(task: Mapping[str, Any], settings: Settings) -> Iterator[Clue]:
    meta = mapping(task.get("meta"))
    for field in (*settings.route_fields, *_META_FIELDS):
        for label in _texts(meta.get(field)):
            yield Clue(label, f"in the task's meta `{field}`")


def _region_clues(task: Mapping[str, Any], context: Any) -> Iterator[Clue]:
    for source in (
        regions.context_regions(context),
        regions.draft_regions(task),
        regions.annotation_regions(task),
        regions.prediction_regions(task),
    ):
        # A choice names the route, while a label may only say what is marked.
        for region in sorted(source, key=lambda region: region.kind != "choices"):
            for label in region.labels:
                if region.kind == "choices" or _normal(label) != _MARK:
                    yield Clue(label, _place(region))


def _config_clues(label_config: Any) -> Iterator[Clue]:
    for label in regions.default_choices(label_config):
        yield Clue(label, "selected by default in the label config")


def _place(region: Region) -> str:
    if region.kind == "choices":
        return f"chosen in {region.where}"
    shape = _ARTICLES.get(region.kind, "a brush stroke" if region.kind == "brush" else "a region")
    return f"on {shape} in {region.where}"


def _texts(value: Any) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [item for item in found[:50] if text(item).strip()]


def _shortened(label: str) -> str:
    label = " ".join(label[:MAX_LABEL_CHARACTERS].split())
    return label if len(label) <= 60 else f"{label[:57]}…"
