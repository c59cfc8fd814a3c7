"""What annotators see: cards, report and gallery, and the prediction that ranks the cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eacps.domain import Candidate, Failure, SearchResult
from eacps.labelstudio.cards.contract import (
    STATE,
    failed_fields,
    finished_fields,
    merged,
    prediction,
)
from eacps.labelstudio.cards.html import (
    ROUTE_NAMES,
    card,
    failure_report,
    report,
    route_line,
    waiting_report,
)
from eacps.labelstudio.cards.naming import has_result_of_02, ids_in
from eacps.labelstudio.cards.records import UrlOf
from eacps.labelstudio.cards.searches import searches_in
from eacps.labelstudio.tasks.origins import META
from eacps.labelstudio.tasks.steering import Steer

__all__ = [
    "META",
    "ROUTE_NAMES",
    "UrlOf",
    "enrichment",
    "failure_enrichment",
    "failure_report",
    "has_result_of_02",
    "ids_in",
    "merged",
    "prediction",
    "report",
    "route_line",
    "searches_in",
    "waiting_enrichment",
]


def enrichment(
    result: SearchResult,
    url_of: UrlOf,
    *,
    job_id: str,
    model_version: str,
    references: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    instruction: str = "",
    steer: Steer | None = None,
) -> dict[str, Any]:
    """The fields that a finished search adds to its task's data.

    `references` are URLs of the reference pictures, `data` is what the task holds already,
    `instruction` is what was asked for if that is not the task's own instruction, `steer` what a
    person asked for on the panel.
    """
    cards = [
        card(result, candidate, rank, _picture(candidate, url_of), steer)
        for rank, candidate in enumerate(result.candidates, start=1)
    ]
    return finished_fields(
        result,
        url_of,
        ids_in(data, result),
        report=report(result, references, instruction, steer),
        cards=cards,
        job_id=job_id,
        model_version=model_version,
        data=data,
        steer=steer,
    )


def failure_enrichment(
    failure: Failure, *, job_id: str, model_version: str, route_line: str = ""
) -> dict[str, Any]:
    """The fields of a failed task: a report that says what is wrong and what to do."""
    return failed_fields(
        failure,
        report=failure_report(failure, route_line),
        job_id=job_id,
        model_version=model_version,
    )


def waiting_enrichment(note: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task whose search comes another day; a report of a result stays."""
    report = {} if data.get("candidates") else {"report_md": waiting_report(note)}
    return {STATE: "waiting: quota", **report}


def _picture(candidate: Candidate, url_of: UrlOf) -> str | None:
    name = candidate.thumbnail or candidate.image
    return url_of(name) if name else None
