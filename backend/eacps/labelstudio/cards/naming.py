"""The ids of candidates in a task: unique over all its searches, and made from what they name.

A search numbers its trials anew (`c1`, `c2`, ...), but annotations name candidates for ever. So a
card's id is its trial's with the first digits of a hash of the search's result: `c7-3f2a9c`. The
same result always has the same ids. Cards of version 0.1 and 0.2 have the trial's id alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any, Final

from eacps.domain import Candidate, SearchResult, digest
from eacps.labelstudio.tasks.origins import META
from eacps.labelstudio.tasks.regions import mapping, sequence, text

RECORD: Final = "candidate"
"""The key of a card with its candidate as data; cards of 0.1 and 0.2 have none."""
EARLIER: Final = " · earlier search"
_DIGITS: Final = 6

IdOf = Callable[[str], str]
"""From a trial's id to the id of its card."""


def search_of(result: SearchResult) -> str:
    """A hash of a search's result: of what its cards show, but not of how long it took."""
    shown = [
        [c.id, c.image, c.thumbnail, c.potential, c.failure.code if c.failure else None]
        for c in result.candidates
    ]
    return digest([result.task.key, shown])


def ids_in(data: Any, result: SearchResult) -> IdOf:
    """The ids of a result's candidates in a task with this data."""
    search = search_of(result)
    taken = set()
    for card in cards_of(data):
        name = text(card.get("id")).rpartition("-")[2]
        if text(mapping(card.get(RECORD)).get("search")) == search:
            return lambda trial: f"{trial}-{name}"
        taken.add(name)
    size = _DIGITS
    while search[:size] in taken and size < len(search):
        size += 1
    return lambda trial: f"{trial}-{search[:size]}"


def cards_of(data: Any) -> list[Mapping[str, Any]]:
    """The cards in a task's data."""
    found = map(mapping, sequence(mapping(data).get("candidates")))
    return [card for card in found if text(card.get("id"))]


def has_result_of_02(data: Any, result: SearchResult) -> bool:
    """Whether 0.2 or earlier wrote this very result into the task, under the trials' own ids."""
    if mapping(mapping(data).get(META)).get("key") != result.task.key:
        return False
    known = {card["id"]: text(card.get("html")) for card in _newest_of_02(data)}
    return len(known) == len(result.candidates) and all(
        candidate.id in known and _picture(candidate) in known[candidate.id]
        for candidate in result.candidates
    )


def pictures_of_02(data: Any) -> dict[str, str]:
    """The full pictures of the cards that 0.2 or earlier wrote last, by id: it stored them in the
    same order, without saying whose they are."""
    gallery = sequence(mapping(data).get("gallery"))
    return {
        card["id"]: url
        for card, url in zip(_newest_of_02(data), gallery, strict=False)
        if isinstance(url, str)
    }


def _newest_of_02(data: Any) -> Iterator[Mapping[str, Any]]:
    def newest(card: Mapping[str, Any]) -> bool:
        return RECORD not in card and not text(card.get("title")).endswith(EARLIER)

    return takewhile(newest, cards_of(data))


def _picture(candidate: Candidate) -> str:
    return candidate.thumbnail or candidate.image or ""
