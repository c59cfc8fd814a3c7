"""The potential that ranks the candidates of each route."""

from __future__ import annotations

from dataclasses import replace

from eacps.domain import EditTask, Route
from eacps.faces.ranges import IDENTITY, SWAP_RANGES
from eacps.scoring.potential import Potential
from eacps.scoring.registry import metrics_of_opened
from eacps.settings import Settings


def potential_of(settings: Settings, route: Route, *, with_reference: bool = True) -> Potential:
    """The potential of a route; without a reference picture, it leaves out identity."""
    if route == "face_swap":
        return Potential.weighted(settings.face_weights, SWAP_RANGES, setting="EACPS_FACE_WEIGHTS")
    potential = Potential.of(settings)
    if not with_reference:
        return _without_identity(potential)
    if route == "character" and IDENTITY not in potential.weights:
        return potential.with_metric(IDENTITY, settings.identity_weight)
    return potential


def measured_metrics(settings: Settings) -> frozenset[str]:
    """The metrics that workers with these settings measure of every edit."""
    wanted = potential_of(settings, "edit", with_reference=False).metric_names
    return metrics_of_opened(settings, wanted)


def potential_range(settings: Settings, task: EditTask) -> tuple[float, float]:
    """The potentials that are shown as scores of 0 and 1."""
    judged = settings.changed(task.settings) if task.settings else settings
    return potential_of(judged, task.route, with_reference=bool(task.references)).range


def _without_identity(potential: Potential) -> Potential:
    weights = {name: weight for name, weight in potential.weights.items() if name != IDENTITY}
    return replace(potential, weights=weights) if weights else potential
