"""What a task's search is going to cost, for the shares and quotas of projects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from eacps.domain import Route
from eacps.errors import EacpsError
from eacps.faces.choices import plan_of, swaps_of
from eacps.labelstudio.tasks.choices import Raw, Server, effective, is_built_in
from eacps.labelstudio.tasks.steering import Steer
from eacps.search import budget, cost, create
from eacps.settings import Settings


@dataclass(frozen=True)
class Cost:
    """How many candidates a search plans to begin, and its work in full renders of the server's
    number of steps."""

    candidates: int
    renders: float


NOTHING = Cost(0, 0.0)
OF_PLUGINS = Cost(8, 8.0)
"""What a search counts whose strategy is a plug-in's, which this process must not run."""


def cost_of(choices: Raw, route: Route, settings: Settings, steer: Steer | None = None) -> Cost:
    """What a search with these choices costs; nothing, if they are refused. `steer` is what a
    person asked for instead of the task's own search."""
    try:
        own = effective(settings, choices)
    except EacpsError:
        return NOTHING
    found = own_cost(own, route, steer)
    return Cost(found.candidates, found.renders * own.steps / settings.steps)


def own_cost(own: Settings, route: Route, steer: Steer | None = None) -> Cost:
    """What a search costs in full renders of the task's own number of steps."""
    if steer is not None and steer.count is not None:
        return Cost(steer.count, float(steer.count))
    return _planned(Server(own), steer.route_of(route) if steer is not None else route)


@lru_cache(maxsize=256)
def _planned(server: Server, route: Route) -> Cost:
    settings = server.settings
    if route == "face_swap":
        return Cost(len(swaps_of(plan_of(settings))), 1.0)
    if not is_built_in(settings.strategy):
        return OF_PLUGINS
    try:
        expected = getattr(create(settings.plan), "expected", None)
        candidates = expected if isinstance(expected, int) else budget(settings.plan)
        return Cost(candidates, cost(settings.plan))
    except EacpsError:
        # The search says what is wrong with the settings.
        return NOTHING
