"""The fields that a search adds to its task's data, and the prediction made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eacps.domain import Candidate, Failure, SearchResult
from eacps.labelstudio import label_config
from eacps.labelstudio.cards.naming import (
    EARLIER,
    RECORD,
    IdOf,
    cards_of,
    pictures_of_02,
    search_of,
)
from eacps.labelstudio.cards.numbers import number
from eacps.labelstudio.cards.records import UrlOf, records
from eacps.labelstudio.cards.searches import SEARCHES, alike, facts_of, ranking_of, searches_in
from eacps.labelstudio.tasks.origins import META, request_in
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.labelstudio.tasks.steering import Steer

STATE = "eacps_state"
"""The field with the state of a task in a word, a column by which the Data Manager can filter."""
PANEL = "panel"
"""The field with the capability that opens the task's panel."""
RANKING = "eacps-rank"
"""The id of our region in a prediction."""


def finished_fields(
    result: SearchResult,
    url_of: UrlOf,
    id_of: IdOf,
    *,
    report: str,
    cards: Sequence[str],
    job_id: str,
    model_version: str,
    data: Mapping[str, Any] | None = None,
    steer: Steer | None = None,
) -> dict[str, Any]:
    """The fields of a finished search; `cards` is HTML for each candidate, in the same order.

    `data` is what the task holds already, `steer` what a person asked for.
    """
    of_card = records(result, url_of, id_of, steer)
    return {
        "gallery": [url_of(c.image) for c in result.usable if c.image],
        "candidates": [
            {
                "id": id_of(candidate.id),
                "title": _title(candidate, id_of(candidate.id) if steer else candidate.id),
                "html": card,
                RECORD: of_card[id_of(candidate.id)],
            }
            for candidate, card in zip(result.candidates, cards, strict=True)
        ],
        "report_md": report,
        STATE: "ready",
        META: {
            "job": job_id,
            "key": result.task.key,
            "model_version": model_version,
            "ranked": [id_of(candidate.id) for candidate in result.usable],
            "score": round(result.share(result.best.potential), 4),
            SEARCHES: {search_of(result): facts_of(result, url_of, searches_in(data), steer)},
        },
    }


def failed_fields(
    failure: Failure, *, report: str, job_id: str, model_version: str
) -> dict[str, Any]:
    """The fields of a failed task, which keeps its existing candidates."""
    return {
        "report_md": report,
        STATE: f"failed: {failure.code}",
        META: {"job": job_id, "model_version": model_version, "failed": failure.code},
    }


def merged(data: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge new fields into a task's data, keeping cards that annotations may refer to."""
    searches = searches_in(data) | searches_in(new)
    meta = {**mapping(new.get(META)), **({SEARCHES: searches} if searches else {})}
    result = {**data, **new, META: meta}
    if "candidates" not in new:
        return result
    (newest,) = searches_in(new) or ("",)
    joined = alike(searches, newest) if newest else set()
    present = {item["id"] for item in new["candidates"]}
    pictures = pictures_of_02(data)
    kept = [
        _current(item)
        if mapping(item.get(RECORD)).get("search") in joined
        else _outdated(item, pictures.get(item["id"]))
        for item in cards_of(data)
        if item["id"] not in present
    ]
    cards = [*new["candidates"], *kept]
    if len(joined) > 1:
        meta |= _ranked_together(cards, ranking_of(searches, joined, cards))
    if "asked" in mapping(searches.get(newest)):
        meta |= _own_request(mapping(data.get(META)), meta)
    return result | {"candidates": cards}


def _ranked_together(cards: Sequence[Mapping[str, Any]], ranked: Sequence[str]) -> dict[str, Any]:
    best = next(card for card in cards if card["id"] == ranked[0])
    return {"ranked": ranked, "score": mapping(best.get(RECORD)).get("score")}


def _own_request(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The task's own request, if its result is here; else `now` has it."""
    known = request_in(before)
    request = {name: text(known.get(name)) for name in ("job", "model_version")}
    same = all(now.get(name) == value for name, value in request.items())
    return {"asked": request} if sequence(before.get("ranked")) and not same else {}


def prediction(
    data: Any, model_version: str | None = None, *, names_all: bool = False
) -> dict[str, Any] | None:
    """The prediction in a task's data, optionally only of one version; None if it is missing or
    inconsistent.

    `names_all`: place every card, for a screen that hides cards that a ranking does not name.
    """
    content = mapping(data)
    meta = mapping(content.get(META))
    ranked, rejected = sequence(meta.get("ranked")), sequence(meta.get("rejected"))
    version = text(meta.get("model_version"))
    if not version or not ranked or model_version not in (None, version):
        return None
    cards = {card["id"]: mapping(card.get(RECORD)) for card in cards_of(content)}
    if not all(isinstance(name, str) and name in cards for name in [*ranked, *rejected]):
        # Label Studio shows a blank screen if a ranker refers to a missing card.
        return None
    if names_all:
        rejected = [*rejected, *(name for name in cards if name not in {*ranked, *rejected})]
    return {
        "model_version": version,
        "score": _score(meta.get("score")),
        "result": [_ranker(ranked, rejected) | _results(ranked, cards)],
    }


def is_ranking(region: Mapping[str, Any]) -> bool:
    """Whether a region of a prediction or an annotation is a ranking of candidates."""
    return region.get("type") == "ranker" and region.get("from_name") == label_config.RANKER


def names_in_ranking(row: Mapping[str, Any], *, of_02: bool = False) -> list[str]:
    """The cards that a prediction or an annotation ranks, optionally only those of 0.2 and earlier,
    whose ids are their trials'."""
    columns = [
        mapping(mapping(region.get("value")).get("ranker"))
        for region in map(mapping, sequence(row.get("result")))
        if is_ranking(region)
    ]
    names = [name for each in columns for column in each.values() for name in sequence(column)]
    return [name for name in names if isinstance(name, str) and not (of_02 and "-" in name)]


def _results(
    ranked: Sequence[str], cards: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The ranked searches for programs; an annotation made from the prediction keeps them."""
    searches = {cards[name].get("search") for name in ranked}
    if None in searches:
        return {}
    of_search = {name: card for name, card in cards.items() if card.get("search") in searches}
    best = {"id": ranked[0], "image": cards[ranked[0]].get("image")}
    return {"meta": {"best": best, "candidates": of_search}}


def _title(candidate: Candidate, name: str) -> str:
    # What people ask for stands beside the task's own candidates, of which one may be of this name.
    trial, _, search = name.partition("-")
    name = "·".join(filter(None, (trial.upper(), search)))
    if candidate.pruned:
        return f"{name} · not finished"
    if candidate.failure:
        return f"{name} · failed"
    return f"{name} · {number(candidate.potential)}"


def _current(item: Mapping[str, Any]) -> dict[str, Any]:
    """A card that is ranked together with the newest ones."""
    return {**item, "title": text(item.get("title")).partition(EARLIER)[0]}


def _outdated(item: Mapping[str, Any], picture: str | None) -> dict[str, Any]:
    """A card of an earlier search; `picture` is what 0.2 or earlier did not note on it."""
    title = text(item.get("title"))
    if EARLIER not in title:
        _trial, _dash, search = item["id"].partition("-")
        title = f"{title}{EARLIER} {search}".rstrip()
    return {**item, "title": title} | ({RECORD: {"image": picture}} if picture else {})


def _ranker(ranked: Sequence[str], rejected: Sequence[str]) -> dict[str, Any]:
    return {
        "id": RANKING,
        "from_name": label_config.RANKER,
        "to_name": label_config.CANDIDATES,
        "type": "ranker",
        "value": {"ranker": {"ranked": list(ranked), "rejected": list(rejected)}},
    }


def _score(value: Any) -> float:
    # Label Studio rejects the whole batch if one score is not a number.
    usable = isinstance(value, int | float) and math.isfinite(value)
    return min(1.0, max(0.0, float(value))) if usable else 0.0
