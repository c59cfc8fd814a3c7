"""What the panel shows of a task, as JSON: its pictures, all candidates of all its searches, and
the orders of saved annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eacps.artifacts import NAME
from eacps.domain import Candidate, EditTask, SearchResult, to_json
from eacps.labelstudio.cards.contract import is_ranking
from eacps.labelstudio.cards.html import ROUTE_NAMES
from eacps.labelstudio.cards.naming import RECORD, cards_of, ids_in, pictures_of_02, search_of
from eacps.labelstudio.cards.records import records
from eacps.labelstudio.cards.searches import finished_as, searches_in
from eacps.labelstudio.label_config import VERDICT
from eacps.labelstudio.panel.explaining import convincing, metric_words, why_it_won
from eacps.labelstudio.tasks.origins import META
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.search.criticism import complaints
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.contract import JobStatus, Search

SOURCE, MASK, REFERENCE = "source", "mask", "reference"
"""Names of the task's own pictures, which are fetched from where the task says they are."""
WITHHELD: Final = (
    "Several people have annotated this task. Their orders are not shown, so that nobody's "
    "judgement depends on another's."
)
_LONGEST_TEXT: Final = 4000
UrlOf = Callable[[str], str]
"""The address of a picture within the panel, by its name."""


@dataclass(frozen=True)
class Known:
    """What the backend knows about a task: its row in Label Studio, its jobs, and what is stored of
    their searches by key. `url_of` makes addresses, `has` tells which artifacts are stored."""

    row: Mapping[str, Any]
    statuses: Sequence[JobStatus]
    searches: Mapping[str, Search]
    url_of: UrlOf
    has: Callable[[str], bool]
    settings: Settings
    _labels: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Mapping[str, Any]:
        """The task's data."""
        return mapping(self.row.get("data"))


def content(known: Known) -> dict[str, Any]:
    """Everything that the panel shows."""
    task = _newest_task(known)
    candidates = [*_in_progress(known), *sorted(_of_cards(known), key=_order_of)]
    _label(candidates)
    ranked = [c for c in candidates if c["newest"] and c["rank"]]
    ranked.sort(key=lambda candidate: candidate["rank"])
    best, second = (*ranked, None, None)[:2]
    labels = {candidate["id"]: candidate["label"] for candidate in candidates}
    for each in candidates:
        each["finished_as"] = labels.get(each["finished_as"])
    names = dict.fromkeys(name for each in candidates for name in each["metrics"])
    return {
        "task": _task(known, task),
        "pictures": _own_pictures(known, task),
        "candidates": candidates,
        "best": best["id"] if best else None,
        "searches": _searches(known, candidates),
        "metrics": {name: metric_words(name) for name in names},
        "why": why_it_won(best, second, labels),
        "warning": convincing(best),
        **_orders(known.row, {candidate["id"] for candidate in candidates}),
    }


def _task(known: Known, task: EditTask | None) -> dict[str, Any]:
    # The newest search may have had one that was typed, or its project's; and its own columns.
    asked = task.instruction if task else known.data.get(known.settings.instruction_field)
    route = task.route if task else "edit"
    return {
        "id": known.row.get("id"),
        "project": known.row.get("project"),
        "instruction": _text(asked if isinstance(asked, str) else ""),
        "route": route,
        "route_name": ROUTE_NAMES[route],
        "route_reason": _text(task.route_reason if task else ""),
        "failed": _text(text(mapping(known.data.get(META)).get("failed"))),
    }


def _newest_task(known: Known) -> EditTask | None:
    keys = [status.key for status in known.statuses if status.key]
    keys += [text(mapping(known.data.get(META)).get("key"))]
    return next((known.searches[key].task for key in keys if key in known.searches), None)


def _own_pictures(known: Known, task: EditTask | None) -> dict[str, Any]:
    """The task's pictures as the editor saw them, while these are stored, or as the task names
    them."""
    settings, data = known.settings, known.data
    references = [_stored(known, name) for name in task.references] if task else []
    if not references or None in references:
        given = data.get(settings.reference_field)
        count = len(given) if isinstance(given, list) else int(bool(given))
        references = [known.url_of(f"{REFERENCE}-{index}") for index in range(min(count, 8))]
    mask = _stored(known, task.mask) if task and task.mask else None
    if mask is None and isinstance(data.get(settings.mask_field), str):
        mask = known.url_of(MASK) if data[settings.mask_field] else None
    source = _stored(known, task.image) if task else None
    if source is None and data.get(settings.image_field):
        source = known.url_of(SOURCE)
    return {"original": source, "mask": mask, "references": references}


def _stored(known: Known, name: str | None) -> str | None:
    return known.url_of(name) if name and known.has(name) else None


def _of_cards(known: Known) -> Iterator[dict[str, Any]]:
    """The candidates on the task's cards, in their order."""
    of_02 = pictures_of_02(known.data)
    results = {
        search_of(search.result): search.result
        for search in known.searches.values()
        if search.result is not None
    }
    places, finished = _places(known), finished_as(known.data)
    asked = searches_in(known.data)
    newest = {
        text(mapping(card.get(RECORD)).get("search"))
        for card in cards_of(known.data)
        if card["id"] in places
    }
    for card in cards_of(known.data):
        record = mapping(card.get(RECORD))
        search = text(record.get("search"))
        one = _candidate(str(card["id"]), record)
        one["newest"] = bool(search) and search in newest
        one["asked"] = "asked" in asked.get(search, {})
        if one["newest"]:
            # Several searches may be ranked together.
            one["rank"] = places.get(str(card["id"]))
        one["picture"] = _picture(known, text(record.get("file")))
        one["thumbnail"] = _picture(known, _thumbnail(card)) or one["picture"]
        if not record:
            one |= _of_earlier_version(known, card, of_02)
        one["finished_as"] = finished.get(str(card["id"]))
        result = results.get(search)
        if result is not None:
            one |= _more(result, text(record.get("trial")))
        yield one


def _order_of(candidate: Mapping[str, Any]) -> float:
    """Ranked candidates by their places, also if several searches made them; then the others."""
    ranked = candidate["newest"] and candidate["rank"]
    return float(candidate["rank"]) if ranked else float("inf")


def _places(known: Known) -> dict[str, int]:
    """The places of the ranked candidates, from 1."""
    ranked = sequence(mapping(known.data.get(META)).get("ranked"))
    return {name: place for place, name in enumerate(ranked, start=1) if isinstance(name, str)}


def _newest_search(known: Known) -> str:
    ranked = sequence(mapping(known.data.get(META)).get("ranked"))
    for card in cards_of(known.data):
        if card["id"] in ranked:
            return text(mapping(card.get(RECORD)).get("search"))
    return ""


def _candidate(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    failure = mapping(record.get("failure"))
    return {
        "id": name,
        "label": name,
        "search": text(record.get("search")),
        "state": text(record.get("state")) or "finished",
        "rank": _integer(record.get("rank")),
        "score": _float(record.get("score")),
        "potential": _float(record.get("potential")),
        "metrics": _numbers(record.get("metrics")),
        "contributions": _numbers(record.get("contributions")),
        "why": _text(text(record.get("why"))),
        "criticism": _text(text(record.get("criticism"))),
        "failure": _text(text(failure.get("message"))),
        "seed": _integer(record.get("seed")),
        "steps": _integer(record.get("steps")),
        "stopped_at": _integer(record.get("stopped_at")),
        "drafted_in": _integer(record.get("drafted_in")),
        "parent": text(record.get("parent")) or None,
        "lineage": _text(text(record.get("lineage"))),
        "moves": len(sequence(record.get("moves"))),
        "words": _text(text(record.get("instruction_suffix"))),
        "nfe": _integer(record.get("nfe")),
        "seconds": _float(record.get("seconds")),
        "notes": [],
        "detail": "",
        "newest": False,
        "asked": False,
        "key": text(record.get("key")),
        "finished_as": None,
    }


def _of_earlier_version(
    known: Known, card: Mapping[str, Any], of_02: Mapping[str, str]
) -> dict[str, Any]:
    """What is known about a card of version 0.2 or earlier."""
    named = NAME.search(of_02.get(card["id"], ""))
    title = text(card.get("title"))
    return {
        "state": "earlier version",
        "picture": _picture(known, named[0] if named else "") or _picture(known, _thumbnail(card)),
        "detail": _text(title),
    }


def _more(result: SearchResult, trial: str) -> dict[str, Any]:
    """What only the stored result of a search tells about a candidate."""
    found = next((each for each in result.candidates if each.id == trial), None)
    if found is None:
        return {}
    return {
        "notes": [_text(note) for note in found.notes],
        "detail": _text(found.detail),
        "contributions": _numbers({m.name: m.contribution for m in found.metrics if m.weight}),
    }


def _in_progress(known: Known) -> Iterator[dict[str, Any]]:
    """The candidates that running searches have made so far."""
    seen = set()
    for status in known.statuses:
        search = known.searches.get(status.key or "")
        if status.state not in ("running", "delivering") or search is None or status.key in seen:
            continue
        seen.add(status.key)
        result = search.result
        if result is not None:
            if search_of(result) in _searches_on_cards(known):
                continue
            for name, record in records(result, lambda _: "", ids_in(known.data, result)).items():
                one = _candidate(name, record)
                made = {"state": "made", "asked": bool(status.origin.get("steer"))}
                yield one | _its_pictures(known, record) | made
            continue
        for candidate in search.candidates:
            asked = bool(status.origin.get("steer"))
            yield _made(known, str(status.key), candidate) | {"asked": asked}


def _made(known: Known, key: str, candidate: Candidate) -> dict[str, Any]:
    record = {
        "search": key,
        "key": key,
        "state": _state(candidate),
        "potential": candidate.potential,
        "metrics": {metric.name: metric.value for metric in candidate.metrics},
        "contributions": {m.name: m.contribution for m in candidate.metrics if m.weight},
        "why": candidate.why,
        "criticism": complaints(candidate.outcome.scores, candidate.reasons),
        "failure": to_json(candidate.failure) if candidate.failure else {},
        "seed": candidate.trial.noise.seed,
        "moves": candidate.trial.noise.moves,
        "parent": _parent(candidate.trial.parent, key),
        "lineage": candidate.trial.lineage,
        "instruction_suffix": candidate.trial.instruction_suffix,
        "nfe": candidate.nfe,
        "seconds": candidate.seconds,
    }
    one = _candidate(f"{candidate.id}-{key[:6]}", record)
    return one | {
        "picture": _picture(known, candidate.image or ""),
        "thumbnail": _picture(known, candidate.thumbnail or candidate.image or ""),
    }


def _parent(parent: str | None, key: str) -> str | None:
    # A parent of another search is named by its card.
    return f"{parent}-{key[:6]}" if parent and "-" not in parent else parent


def _state(candidate: Candidate) -> str:
    if candidate.failure is not None:
        return "pruned" if candidate.pruned else "failed"
    # A trial that was paused may go on.
    return "made" if candidate.trial.to_step is None else "preview"


def _its_pictures(known: Known, record: Mapping[str, Any]) -> dict[str, Any]:
    picture = _picture(known, text(record.get("file")))
    return {"picture": picture, "thumbnail": picture}


def _searches_on_cards(known: Known) -> set[str]:
    return {text(mapping(card.get(RECORD)).get("search")) for card in cards_of(known.data)}


def _picture(known: Known, name: str) -> str | None:
    return known.url_of(name) if NAME.fullmatch(name) else None


def _thumbnail(card: Mapping[str, Any]) -> str:
    found = NAME.search(text(card.get("html")))
    return found[0] if found else ""


def _label(candidates: Sequence[dict[str, Any]]) -> None:
    """Short names: those of trials where they are unique or of the newest search, unless somebody
    asked for it: then they stand beside those of the task's own."""
    short = [candidate["id"].partition("-")[0].upper() for candidate in candidates]
    own = Counter(name for name, each in zip(short, candidates, strict=True) if not each["asked"])
    for name, candidate in zip(short, candidates, strict=True):
        unique = not candidate["asked"] and (own[name] == 1 or candidate["newest"])
        _, _, search = candidate["id"].partition("-")
        candidate["label"] = name if unique or not search else f"{name}·{search}"


def _searches(known: Known, candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The searches whose candidates are shown, in the order of these."""
    results = {
        search_of(each.result): each.result for each in known.searches.values() if each.result
    }
    counts = Counter(candidate["search"] for candidate in candidates)
    newest = _newest_search(known)
    return [
        {
            "id": name,
            "count": count,
            "newest": name == newest,
            **(_talk(results[name]) if name in results else {}),
        }
        for name, count in counts.items()
    ]


def _talk(result: SearchResult) -> dict[str, Any]:
    """How a search went, in words."""
    return {
        "strategy": _text(result.task.plan.strategy),
        "editor": _text(result.editor),
        "nfe": result.nfe,
        "seconds": round(result.seconds, 2),
        "notes": [_text(note) for note in result.notes],
        "decisions": [_text(decision) for decision in result.decisions],
    }


def _orders(row: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """The orders in saved annotations, by their numbers; no names of persons. None if several
    people annotated the task."""
    saved = [
        annotation
        for annotation in map(mapping, sequence(row.get("annotations")))
        if not annotation.get("was_cancelled")
    ]
    people = {str(annotation.get("completed_by")) for annotation in saved}
    if len(people) > 1:
        return {"annotations": [], "withheld": WITHHELD}
    return {"annotations": [_order(annotation, known) for annotation in saved], "withheld": ""}


def _order(annotation: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    regions = [mapping(region) for region in sequence(annotation.get("result"))]
    columns = mapping(
        mapping(mapping(next(filter(is_ranking, regions), {})).get("value")).get("ranker")
    )
    verdicts = [
        word
        for region in regions
        if region.get("from_name") == VERDICT
        for word in sequence(mapping(region.get("value")).get("choices"))
    ]
    return {
        "id": annotation.get("id"),
        "ranked": [name for name in sequence(columns.get("ranked")) if name in known],
        "rejected": [name for name in sequence(columns.get("rejected")) if name in known],
        "verdict": _text(text(verdicts[0])) if verdicts else "",
    }


def _text(value: str) -> str:
    return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}…"


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _float(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    number = float(value) if good else float("nan")
    return number if abs(number) < float("inf") else None


def _numbers(value: Any) -> dict[str, float]:
    found = {str(name)[:80]: _float(each) for name, each in mapping(value).items()}
    return {name: number for name, number in found.items() if number is not None}
