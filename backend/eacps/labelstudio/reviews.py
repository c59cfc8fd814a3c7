"""Reads annotations: which candidates are ranked, what they are, and what does not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from eacps.labelstudio import label_config
from eacps.labelstudio.cards.contract import is_ranking, names_in_ranking
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.cards.searches import finished_as, searches_in
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.merging import own_name
from eacps.labelstudio.tasks.regions import mapping, sequence, text

ACCEPT, ANOTHER, NONE = label_config.VERDICTS
UNKNOWN: Final = (
    "The pictures of this ranking are unknown: version 0.2 or earlier may have replaced them by "
    "those of another search."
)
_TASKS_AT_ONCE: Final = 50
_PASSES: Final = 3
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def reviewed_tasks(client: LabelStudioClient, project: int) -> Iterator[dict[str, Any]]:
    """All tasks of a project that have annotations, with their predictions, some at once."""
    seen: set[int] = set()
    for _ in range(_PASSES):
        # This listing, unlike others, does not ask the ML backend, i.e. this program.
        for rows in client.pages(f"/api/projects/{project}/tasks/", _TASKS_AT_ONCE):
            for row in rows:
                if int(row["id"]) not in seen:
                    seen.add(int(row["id"]))
                    if sequence(row.get("annotations")):
                        yield row
        if len(seen) >= int(client.project(project).get("task_number") or 0):
            return
        # A task that was deleted meanwhile moved others to a page that was read before.


def reviews(task: Mapping[str, Any], config: Any = None) -> Iterator[dict[str, Any]]:
    """One review per annotation that was not skipped; `config` is the project's label config."""
    for annotation in map(mapping, sequence(task.get("annotations"))):
        if not annotation.get("was_cancelled"):
            yield _review(task, annotation, config)


def _review(task: Mapping[str, Any], annotation: Mapping[str, Any], config: Any) -> dict[str, Any]:
    regions = [mapping(region) for region in sequence(annotation.get("result"))]
    ranking = next(filter(is_ranking, regions), {})
    columns = mapping(mapping(ranking.get("value")).get("ranker"))
    ranked, rejected = (
        [name for name in sequence(columns.get(column)) if isinstance(name, str)]
        for column in ("ranked", "rejected")
    )
    candidates = _candidates(task, annotation, ranking, [*ranked, *rejected])
    verdict = "".join(_values(regions, own_name(config, label_config.VERDICT), "choices")[:1])
    best_by_machine = _best_by_machine(task, ranking, candidates, [*ranked, *rejected])
    problems = [UNKNOWN] if candidates is None else []
    if candidates is not None:
        problems += _problems(verdict, ranked, best_by_machine, candidates)
    return {
        "task": task.get("id"),
        "annotation": annotation.get("id"),
        "by": annotation.get("completed_by"),
        "updated_at": annotation.get("updated_at"),
        "verdict": verdict or None,
        "comment": "\n".join(_values(regions, own_name(config, label_config.COMMENT), "text"))
        or None,
        "ranked": ranked,
        "rejected": rejected,
        "best_by_human": None if verdict == NONE else next(iter(ranked), None),
        "best_by_machine": best_by_machine,
        "candidates": candidates,
        "problems": problems,
    }


def _candidates(
    task: Mapping[str, Any],
    annotation: Mapping[str, Any],
    ranking: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, Any] | None:
    """What the ranking names; None if that is no longer known."""
    cards = {card["id"]: mapping(card.get(RECORD)) for card in cards_of(task.get("data"))}
    known = cards | dict(mapping(mapping(ranking.get("meta")).get("candidates")))
    of_02 = [name for name in names if "search" not in mapping(known.get(name))]
    if of_02 and not _is_of_newest_02(annotation, sequence(task.get("predictions"))):
        return None
    searches, finished = searches_in(task.get("data")), finished_as(task.get("data"))
    return {name: _record(name, mapping(known.get(name)), searches, finished) for name in names}


def _record(
    name: str,
    known: Mapping[str, Any],
    searches: Mapping[str, Mapping[str, Any]],
    finished: Mapping[str, str],
) -> dict[str, Any]:
    """What is known of a candidate, with what its search was asked for, which may be another
    instruction than the task's, and the card of the picture that a preview became."""
    facts = mapping(searches.get(text(known.get("search"))))
    mask = text(mapping(facts.get("mask")).get("file"))
    more = {
        "instruction": text(facts.get("instruction")),
        "mask": mask,
        "finished_as": finished.get(name),
    }
    return {**known, **{part: value for part, value in more.items() if value}}


def _is_of_newest_02(annotation: Mapping[str, Any], predictions: Sequence[Any]) -> bool:
    """Whether an annotation was made on the last cards that 0.2 or earlier wrote, which are still
    there: each of its searches replaced those of the one before."""
    of_02 = [row for row in map(mapping, predictions) if names_in_ranking(row, of_02=True)]
    if not of_02:
        return False
    newest = max(of_02, key=lambda row: (_moment(row.get("created_at")), row.get("id")))
    if annotation.get("parent_prediction") == newest.get("id"):
        return True
    return _moment(annotation.get("created_at")) >= _moment(newest.get("created_at"))


def _best_by_machine(
    task: Mapping[str, Any],
    ranking: Mapping[str, Any],
    candidates: Mapping[str, Any] | None,
    names: Sequence[str],
) -> str | None:
    best = text(mapping(mapping(ranking.get("meta")).get("best")).get("id"))
    if best or candidates is None:
        return best or None
    firsts = [name for name, each in candidates.items() if each.get("rank") == 1]
    if firsts:
        return firsts[0] if len(firsts) == 1 else None
    # Cards of 0.2 and earlier stand in the order of their ranks.
    return next((card["id"] for card in cards_of(task.get("data")) if card["id"] in names), None)


def _problems(
    verdict: str, ranked: Sequence[str], best: str | None, candidates: Mapping[str, Any]
) -> Iterator[str]:
    if not verdict:
        yield "There is no verdict."
    first = next(iter(ranked), None)
    if verdict == ACCEPT and best and first != best:
        yield f"The verdict is “{ACCEPT}”, but {best} is not on top of the ranking."
    if verdict == ANOTHER and first and first == best:
        yield f"The verdict is “{ANOTHER}”, but {best} is still on top of the ranking."
    if verdict == NONE and ranked:
        yield f"The verdict is “{NONE}”, but {len(ranked)} candidates are ranked as acceptable."
    for name in ranked:
        record = candidates[name]
        if record.get("state", "finished") != "finished" and "finished_as" not in record:
            yield f"{name} is ranked, but it is not finished: its picture is a preview."


def _values(regions: Sequence[Mapping[str, Any]], name: str, key: str) -> list[str]:
    found = [region for region in regions if region.get("from_name") == name]
    values = [sequence(mapping(region.get("value")).get(key)) for region in found]
    return [value for each in values for value in each if isinstance(value, str)]


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(text(value))
    except ValueError:
        return _LONG_AGO
