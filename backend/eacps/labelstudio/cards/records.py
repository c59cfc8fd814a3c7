"""A candidate as data, on its card and in predictions: all that an export needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from eacps.domain import Candidate, SearchResult, to_json
from eacps.labelstudio.cards.naming import IdOf, search_of
from eacps.labelstudio.tasks.steering import Steer
from eacps.search.criticism import complaints

UrlOf = Callable[[str], str]


def records(
    result: SearchResult, url_of: UrlOf, id_of: IdOf, steer: Steer | None = None
) -> dict[str, dict[str, Any]]:
    """Every candidate of a search by the id of its card, best first."""
    search = search_of(result)
    return {
        id_of(candidate.id): {
            "search": search,
            "key": result.task.key,
            "model_version": result.task.model_version,
            **_what_it_is(result, candidate, rank),
            "image": url_of(candidate.image) if candidate.image else None,
            "file": candidate.image,
            **_how_it_was_made(result, candidate, id_of, steer),
        }
        for rank, candidate in enumerate(result.candidates, start=1)
    }


def _what_it_is(result: SearchResult, candidate: Candidate, rank: int) -> dict[str, Any]:
    failure = candidate.failure
    state = "pruned" if candidate.pruned else "failed" if failure else "finished"
    criticised = complaints(candidate.outcome.scores, candidate.reasons)
    unranked = state == "failed" or candidate.unjudged
    return {
        "trial": candidate.id,
        "state": state,
        "rank": rank if candidate.outcome.usable else None,
        "score": None if unranked else round(result.share(candidate.potential), 4),
        "potential": _finite(candidate.potential),
        "metrics": {metric.name: _finite(metric.value) for metric in candidate.metrics},
        **({"failure": to_json(failure)} if failure else {}),
        **({"why": candidate.why} if candidate.why else {}),
        **({"criticism": criticised} if criticised else {}),
    }


def lineage(candidate: Candidate, steer: Steer | None = None) -> str:
    """Where a candidate comes from, in words."""
    words = candidate.trial.lineage
    return steer.lineage_of(candidate.id, words) if steer else words


def _how_it_was_made(
    result: SearchResult, candidate: Candidate, id_of: IdOf, steer: Steer | None
) -> dict[str, Any]:
    trial = candidate.trial
    swap = {"swap": to_json(trial.swap)} if trial.swap else {}
    suffix = {"instruction_suffix": trial.instruction_suffix} if trial.instruction_suffix else {}
    return {
        "seed": trial.noise.seed,
        "moves": [to_json(move) for move in trial.noise.moves],
        "steps": result.task.plan.steps,
        "stopped_at": trial.to_step if candidate.pruned and not trial.draft else None,
        "parent": _card_of(trial.parent, id_of) if trial.parent else None,
        "lineage": lineage(candidate, steer),
        "rendered": result.task.rendered,
        **({"drafted_in": trial.to_step} if trial.draft else {}),
        **({"edited_from": trial.start} if trial.start else {}),
        **suffix,
        **swap,
        "nfe": candidate.nfe,
        "seconds": round(candidate.seconds, 3),
    }


def _card_of(parent: str, id_of: IdOf) -> str:
    # A parent of another search is named by its card.
    return parent if "-" in parent else id_of(parent)


def _finite(value: float | None) -> float | None:
    # Label Studio refuses data with NaN.
    return value if value is not None and isfinite(value) else None
