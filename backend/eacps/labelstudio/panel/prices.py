"""What a request costs before it is made: candidates, renders, and seconds as far as known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from eacps.domain import Route, SearchResult
from eacps.labelstudio.tasks.costs import Cost


def seconds_of_render(results: Iterable[SearchResult], editor: str) -> float | None:
    """How long a device took for a full render lately, with its judges; None if nothing is known.

    `editor` is the fingerprint of the editor and its settings.
    """
    found = []
    for result in results:
        task = result.task
        if task.rendered != editor or task.route == "face_swap":
            continue
        shares = [
            (each.trial.to_step or task.plan.steps) / task.plan.steps
            for each in result.candidates
            if each.seconds > 0
        ]
        if shares:
            found.append(sum(each.seconds for each in result.candidates) / sum(shares))
    return median(found) if found else None


def price(cost: Cost, route: Route, seconds: float | None, devices: int) -> Mapping[str, Any]:
    """What a search costs; `seconds` are those of one render on one device."""
    renders = 0.0 if route == "face_swap" else cost.renders
    known = seconds is not None and renders > 0
    at_once = max(1, min(devices, cost.candidates))
    return {
        "candidates": cost.candidates,
        "renders": round(renders, 2),
        "seconds": round((seconds or 0.0) * renders / at_once, 1) if known else None,
    }
