"""The fields that a search adds to its task's data, and the prediction made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eacps.domain import Candidate, Failure, SearchResult
from eacps.labelstudio import label_config
from eacps.labelstudio.cards.numbers import number
from eacps.labelstudio.tasks.origins import META
from eacps.labelstudio.tasks.regions import mapping, sequence, text

UrlOf = Callable[[str], str]
RANKING = "eacps-rank"
"""The id of our region in a prediction."""


def finished_fields(
    result: SearchResult,
    url_of: UrlOf,
    *,
    report: str,
    cards: Sequence[str],
    job_id: str,
    model_version: str,
) -> dict[str, Any]:
    """The fields of a finished search; `cards` is HTML for each candidate, in the same order."""
    ranked = [candidate.id for candidate in result.usable]
    return {
        "gallery": [url_of(c.image) for c in result.usable if c.image],
        "candidates": [
            {"id": candidate.id, "title": _title(candidate), "html": card}
            for candidate, card in zip(result.candidates, cards, strict=True)
        ],
        "report_md": report,
        META: {
            "job": job_id,
            "key": result.task.key,
            "model_version": model_version,
            "ranked": ranked,
            "rejected": [c.id for c in result.candidates if c.id not in ranked],
            "score": round(result.share(result.best.potential), 4),
        },
    }


def failed_fields(
    failure: Failure, *, report: str, job_id: str, model_version: str
) -> dict[str, Any]:
    """The fields of a failed task, which keeps its existing candidates."""
    return {
        "report_md": report,
        META: {"job": job_id, "model_version": model_version, "failed": failure.code},
    }


def merged(data: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge new fields into a task's data, keeping cards that annotations may refer to."""
    result = {**data, **new}
    if "candidates" not in new:
        return result
    present = {item["id"] for item in new["candidates"]}
    kept = [
        dict(item)
        for item in map(mapping, sequence(data.get("candidates")))
        if isinstance(item.get("id"), str) and item["id"] not in present
    ]
    if kept:
        meta = dict(new[META])
        meta["rejected"] = [*meta["rejected"], *(item["id"] for item in kept)]
        result |= {"candidates": [*new["candidates"], *map(_outdated, kept)], META: meta}
    return result


def prediction(data: Any, model_version: str | None = None) -> dict[str, Any] | None:
    """The prediction in a task's data, optionally only of one version; None if it is missing or
    inconsistent."""
    content = mapping(data)
    meta = mapping(content.get(META))
    ranked, rejected = sequence(meta.get("ranked")), sequence(meta.get("rejected"))
    version = text(meta.get("model_version"))
    if not version or not ranked or model_version not in (None, version):
        return None
    present = [mapping(item).get("id") for item in sequence(content.get("candidates"))]
    names = [*ranked, *rejected]
    if not all(isinstance(name, str) and name in present for name in names):
        # Label Studio shows a blank screen if a ranker refers to a missing card.
        return None
    return {
        "model_version": version,
        "score": _score(meta.get("score")),
        "result": [_ranker(ranked, rejected)],
    }


def _title(candidate: Candidate) -> str:
    name = candidate.id.upper()
    if candidate.pruned:
        return f"{name} · stopped early"
    if candidate.failure:
        return f"{name} · failed"
    return f"{name} · {number(candidate.potential)}"


def _outdated(item: dict[str, Any]) -> dict[str, Any]:
    title = text(item.get("title"))
    suffix = " · earlier search"
    return item | {"title": title if title.endswith(suffix) else title + suffix}


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
