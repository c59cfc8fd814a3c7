"""The searches of a task, kept in its data: what was asked for and with what, so that a candidate's
recipe is complete for as long as its card exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, Final

from eacps.domain import SearchResult
from eacps.labelstudio.cards.naming import RECORD, cards_of, search_of
from eacps.labelstudio.tasks.origins import META
from eacps.labelstudio.tasks.regions import mapping, text
from eacps.labelstudio.tasks.steering import Steer

SEARCHES: Final = "searches"
_ALIKE: Final = ("image", "instruction", "route", "mask", "judged")
"""Candidates of searches that have these in common are ranked together."""

UrlOf = Callable[[str], str]


def searches_in(data: Any) -> dict[str, Mapping[str, Any]]:
    """What a task's data says about its searches by their ids, oldest first."""
    known = mapping(mapping(mapping(data).get(META)).get(SEARCHES))
    found = {name: mapping(facts) for name, facts in known.items()}
    return dict(sorted(found.items(), key=lambda item: _number(item[1])))


def facts_of(
    result: SearchResult, url_of: UrlOf, known: Mapping[str, Any], steer: Steer | None
) -> dict[str, Any]:
    """What a task keeps about a search; `known` are those that it has already."""
    task, name = result.task, search_of(result)
    number = _number(known.get(name)) or 1 + max(map(_number, known.values()), default=0)
    mask = {"file": task.mask, "url": url_of(task.mask)} if task.mask else None
    return {
        "number": number,
        "key": task.key,
        "image": task.image,
        "instruction": task.instruction,
        "route": task.route,
        "mask": mask,
        "strategy": task.plan.strategy,
        "steps": task.plan.steps,
        "editor": result.editor,
        "rendered": task.rendered,
        "judged": task.judged,
        "nfe": result.nfe,
        "seconds": result.seconds,
        **({"asked": steer.facts} if steer else {}),
    }


def finished_as(data: Any) -> dict[str, str]:
    """The cards with the finished pictures of previews that were stopped early, by these previews'
    cards."""
    searches = searches_in(data)
    found: dict[str, str] = {}
    for card in cards_of(data):
        record = mapping(card.get(RECORD))
        asked = mapping(mapping(searches.get(text(record.get("search")))).get("asked"))
        is_rest = asked.get("action") == "finish" and record.get("state") == "finished"
        if is_rest and (preview := text(record.get("parent"))):
            found.setdefault(preview, text(card.get("id")))
    return found


def alike(searches: Mapping[str, Any], newest: str) -> set[str]:
    """The newest search and those whose candidates are ranked together with its own: of the same
    picture, instruction, mask and judges. Only what people ask for on the panel is joined."""
    found = {name for name, facts in searches.items() if _is_alike(facts, searches[newest])}
    return found if any("asked" in searches[name] for name in found) else {newest}


def ranking_of(searches: Mapping[str, Any], joined: Set[str], cards: Iterable[Any]) -> list[str]:
    """The finished candidates of the joined searches, best first."""
    places = []
    for index, card in enumerate(cards):
        record = mapping(card.get(RECORD))
        search, potential = text(record.get("search")), record.get("potential")
        if search in joined and isinstance(record.get("rank"), int):
            height = potential if isinstance(potential, int | float) else -math.inf
            places.append((-height, _number(searches[search]), index, card["id"]))
    return [name for *_, name in sorted(places)]


def _is_alike(facts: Mapping[str, Any], newest: Mapping[str, Any]) -> bool:
    def of(each: Mapping[str, Any], name: str) -> Any:
        return text(mapping(each.get(name)).get("file")) if name == "mask" else each.get(name)

    return bool(facts.get("judged")) and all(of(facts, name) == of(newest, name) for name in _ALIKE)


def _number(facts: Any) -> int:
    number = mapping(facts).get("number")
    return number if isinstance(number, int) and not isinstance(number, bool) else 0
