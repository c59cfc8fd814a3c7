"""Reads recipes of candidates, and what their searches were asked for, from a task's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from eacps.artifacts import NAME
from eacps.domain import Move, from_json
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.cards.searches import searches_in
from eacps.labelstudio.panel.asking import wrong
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.labelstudio.tasks.steering import Continued, KeptFile, Picked

_NO_RECIPE: Final = (
    "Version 0.2 or earlier made {name}, and kept no recipe of it: pick another candidate."
)


def pick_of(name: str, record: Mapping[str, Any] | None) -> tuple[Picked, str]:
    """A candidate that was picked, and its search; raises PanelRefusedError."""
    if record is None:
        raise wrong(f"The task has no candidate {name!r}.")
    search = text(record.get("search"))
    if not search or not isinstance(record.get("seed"), int):
        raise wrong(_NO_RECIPE.format(name=name))
    try:
        moves = from_json(tuple[Move, ...], sequence(record.get("moves")))
        pick = Picked(
            id=name,
            seed=int(record["seed"]),
            moves=moves,
            suffix=text(record.get("instruction_suffix")),
            stopped_at=_whole(record.get("stopped_at")),
            steps=_whole(record.get("steps")) or 0,
            rendered=text(record.get("rendered")),
            start=_file(record.get("edited_from")),
        )
    except ValueError:
        raise wrong(f"The recipe of {name!r} cannot be read.") from None
    return pick, search


def continued_of(search: str, facts: Mapping[str, Any]) -> Continued:
    """A search that is continued, by what its task keeps of it."""
    route = facts.get("route")
    mask = mapping(facts.get("mask"))
    return Continued(
        search=search,
        instruction=text(facts.get("instruction")),
        route=route if route in ("face_swap", "character") else "edit",
        mask=KeptFile(text(mask.get("file")), text(mask.get("url"))) if mask else None,
    )


def seeds_on_cards(row: Mapping[str, Any]) -> Iterator[int]:
    """The seeds of all candidates on a task's cards."""
    for card in cards_of(row.get("data")):
        record = mapping(card.get(RECORD))
        moves = [mapping(move).get("seed") for move in sequence(record.get("moves"))]
        yield from (each for each in (record.get("seed"), *moves) if isinstance(each, int))


def next_number(data: Any) -> int:
    """The least number that a new request of a task may have."""
    numbers = (mapping(facts.get("asked")).get("n") for facts in searches_in(data).values())
    return 1 + max((n for n in numbers if isinstance(n, int)), default=0)


def _file(value: Any) -> str:
    """The name of a file of the artifact store, or nothing: a task's data may hold anything."""
    return value if isinstance(value, str) and NAME.fullmatch(value) else ""


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
