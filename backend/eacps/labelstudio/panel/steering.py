"""Turns what people ask for on the panel into jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from eacps import fingerprints
from eacps import log as logs
from eacps.domain import EditTask, Route, digest
from eacps.jobs.contract import INTERACTIVE_PRIORITY, Job, PanelLimits, PanelRequest
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.cards.searches import searches_in
from eacps.labelstudio.panel.asking import MOST_CANDIDATES, Request, wrong
from eacps.labelstudio.panel.capability import Capability, PanelRefusedError
from eacps.labelstudio.panel.pictures import gone
from eacps.labelstudio.panel.prices import price, seconds_of_render
from eacps.labelstudio.panel.recipes import continued_of, next_number, pick_of, seeds_on_cards
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.choices import effective, over
from eacps.labelstudio.tasks.costs import Cost, own_cost
from eacps.labelstudio.tasks.extra_params import ExtraParams
from eacps.labelstudio.tasks.origins import Origin, new_job, origin_of
from eacps.labelstudio.tasks.regions import mapping
from eacps.labelstudio.tasks.steering import ON_PICKS, Continued, Picked, Steer
from eacps.search import create
from eacps.search.seeds import derived_seed

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue
    from eacps.labelstudio.client import LabelStudioClient
    from eacps.settings import Settings

log = logging.getLogger(__name__)

HISTORY_SECONDS: Final = 30.0
PROJECT_SECONDS: Final = 30.0
"""For so long a page is shown with what is known of its project; a request asks again."""
RECENT: Final = 8
_LISTED: Final = 4096
"""So many seeds of a search that has not ended are known in advance."""


@dataclass
class Steering:
    """Takes requests of panels, and says what they cost."""

    settings: Settings
    jobs: JobQueue
    client: LabelStudioClient
    _history: dict[str, tuple[float, float | None, int]] = field(default_factory=dict)
    _projects: dict[int, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)

    def ask(self, capability: Capability, asked: Request) -> dict[str, Any]:
        """Submit the job of a request; raises PanelRefusedError or PanelLimitError."""
        self._require_on()
        place = shown_by(self.settings.label_studio_url, capability.task)
        job = digest(["panel", place, asked.token])
        known = self.jobs.status(job)
        if known is not None:
            return {"job": job, "new": False}
        # Before Label Studio is asked, which costs more.
        limits = self._limits()
        limits.require_room(self.jobs.panel_today(place), actions=1)
        row = self.client.read_task(capability.project, capability.task)
        if row is None:
            raise gone()
        planned = self._planned(row, asked, place)
        count = planned.cost.candidates
        request = PanelRequest(job, place, asked.action, count)
        least = next_number(row.get("data"))

        def make(number: int, others: frozenset[int]) -> tuple[Job, Sequence[int]]:
            steer = replace(planned.steer, n=number, used=tuple(sorted({*planned.used, *others})))
            origin = replace(planned.origin, steer=steer)
            submitted = new_job(origin, INTERACTIVE_PRIORITY, job, settings=self.settings)
            return submitted, _drawn(steer, planned.own)

        number, is_new = self.jobs.ask_on_panel(request, limits, least, make)
        with logs.ids(job=job, project=capability.project, task=capability.task):
            log.info("through the panel: %s, %d candidates", planned.steer.in_words, count)
        seconds = self._seconds(planned.own, planned.route)
        cost = price(planned.cost, planned.route, *seconds)
        return {"job": job, "new": is_new, "n": number, "price": cost}

    def cancel(self, capability: Capability, job: str) -> dict[str, Any]:
        """Cancel a request of this task's panel."""
        self._require_on()
        found = self.jobs.status(job)
        origin = found.origin if found else {}
        own = self.settings.label_studio_url, capability.task
        if not origin.get("steer") or (origin.get("label_studio"), origin.get("task")) != own:
            raise PanelRefusedError("This panel asked for no such search.", code="panel_job")
        with logs.ids(job=job, project=capability.project, task=capability.task):
            log.info("through the panel: cancelled")
        return {"job": job, "cancelled": self.jobs.cancel(job)}

    def origin(self, row: Mapping[str, Any], *, fresh: bool = False) -> Origin:
        """The task's own request, with what its project chooses."""
        number = int(row["project"])
        project = self._project(number, fresh)
        return origin_of(
            row,
            self.settings,
            label_config=project.get("label_config"),
            project=project,
            extra_params=ExtraParams(self.settings, self.jobs).of(number),
        )

    def offer(self, row: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        """What the page needs to say what may be asked for, and at what price."""
        today = self.jobs.panel_today(shown_by(self.settings.label_studio_url, int(row["id"])))
        continued = self._continued(row, ())
        own = _own_settings(origin, self.settings)
        seconds, devices = self._seconds(own, "edit")
        search = own_cost(own, "edit")
        return {
            "instruction": continued.instruction if continued else "",
            "masked": bool(continued and continued.mask),
            "route": continued.route if continued else origin.route,
            "searched": continued is not None,
            "drawn": bool(origin.regions),
            "refused": origin.refused,
            "search": {"candidates": search.candidates, "renders": round(search.renders, 2)},
            "swaps": own_cost(own, "face_swap").candidates,
            "seconds": seconds,
            "devices": devices,
            "most": MOST_CANDIDATES,
            "left": {
                "actions": max(0, self.settings.panel_actions_per_day - today.actions),
                "candidates": max(0, self.settings.panel_candidates_per_day - today.candidates),
            },
        }

    def _require_on(self) -> None:
        if self.settings.panel != "on":
            raise PanelRefusedError(
                "This panel only shows (EACPS_PANEL=view): nothing can be asked for on it.",
                code="panel_view",
                status=403,
            )

    def _limits(self) -> PanelLimits:
        return PanelLimits(
            self.settings.panel_actions_per_day, self.settings.panel_candidates_per_day
        )

    def _planned(self, row: Mapping[str, Any], asked: Request, place: str) -> _Planned:
        origin = self.origin(row, fresh=True)
        if origin.refused:
            raise wrong(origin.refused)
        own = _own_settings(origin, self.settings)
        picks = self._picks(row, asked.picks)
        continued = self._continued(row, [search for _, search in picks])
        _require_possible(asked, continued, origin)
        steer = Steer(
            asked.action,
            n=0,
            seed=int(digest([place, asked.token])[:14], 16),
            candidates=asked.candidates,
            picks=tuple(pick for pick, _ in picks),
            words=asked.words if asked.action == "refine" else "",
            instruction=asked.instruction if asked.action in ("instruction", "here") else "",
            angle=asked.angle,
            shapes=tuple(shape.content for shape in asked.shapes) if asked.action in _DRAW else (),
            reference=asked.reference if asked.action == "face" else None,
            continued=continued,
        )
        return _Planned(origin, steer, own, self._used(row, own))

    def _project(self, number: int, fresh: bool) -> Mapping[str, Any]:
        known = self._projects.get(number)
        if fresh or known is None or time.monotonic() > known[0] + PROJECT_SECONDS:
            known = self._projects[number] = (time.monotonic(), self.client.project(number))
        return known[1]

    def _picks(self, row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[Picked, str]]:
        cards = {card["id"]: mapping(card.get(RECORD)) for card in cards_of(row.get("data"))}
        return [pick_of(name[:80], cards.get(name)) for name in names]

    def _continued(self, row: Mapping[str, Any], of_picks: Sequence[str]) -> Continued | None:
        """The search that a request continues: that of its picks, or else the newest."""
        searches = searches_in(row.get("data"))
        if not searches:
            return None
        unknown = [name for name in of_picks if name not in searches]
        if unknown:
            raise wrong("What the picked candidates were asked for is no longer known.")
        found = [continued_of(name, searches[name]) for name in of_picks or list(searches)[-1:]]
        same = {(each.instruction, each.route, each.mask and each.mask.file) for each in found}
        if len(same) > 1:
            raise wrong(
                "The picked candidates have different instructions or masks: pick those of one."
            )
        return found[0]

    def _used(self, row: Mapping[str, Any], own: Settings) -> frozenset[int]:
        """The seeds that searches of the task have used, or will use."""
        used = set(seeds_on_cards(row))
        if not used:
            # Its own search may be under way.
            count = min(_LISTED, 2 * own_cost(own, "edit").candidates)
            used = {derived_seed(own.seed, index) for index in range(count)}
        return frozenset(used)

    def _seconds(self, own: Settings, route: Route) -> tuple[float | None, int]:
        """The seconds of a full render, and the number of devices; asked for now and then."""
        editor = fingerprints.rendered(own, route)
        known = self._history.get(editor)
        if known is None or time.monotonic() > known[0] + HISTORY_SECONDS:
            seconds = seconds_of_render(self.jobs.recent_results(RECENT), editor)
            devices = sum(worker.role == "worker" for worker in self.jobs.workers())
            known = self._history[editor] = (time.monotonic(), seconds, devices)
        return known[1], known[2]


_DRAW: Final = ("here", "face")


@dataclass(frozen=True)
class _Planned:
    """A request before it has a number; `own` are the settings of its task."""

    origin: Origin
    steer: Steer
    own: Settings
    used: frozenset[int]

    @property
    def route(self) -> Route:
        """The route of its search."""
        return self.steer.route_of(self.origin.route)

    @property
    def cost(self) -> Cost:
        """What its search costs."""
        return own_cost(self.own, self.origin.route, self.steer)


def _own_settings(origin: Origin, settings: Settings) -> Settings:
    """The settings of a task, as far as they can be known without plug-ins; the server's, if they
    are refused."""
    if origin.refused:
        return settings
    chosen = over(origin.project_choices, origin.task_choices)
    return effective(settings, chosen)


def _require_possible(asked: Request, continued: Continued | None, origin: Origin) -> None:
    route = continued.route if continued else origin.route
    if asked.action == "more" and continued is None:
        raise wrong("There is no finished search yet of which more could be made.")
    if asked.action in ("more", "like", "refine", "finish") and route == "face_swap":
        raise wrong(
            "A face swap has no noise, so there is nothing to vary: all choices are shown already. "
            "Draw another face, or choose another character."
        )
    if asked.action in _DRAW and not asked.shapes and not origin.regions:
        raise wrong("Draw the part first, here or in a submitted annotation of Label Studio.")
    instruction = asked.instruction or (continued.instruction if continued else "")
    if asked.action == "here" and continued is not None and route == "face_swap":
        instruction = asked.instruction
    if asked.action == "here" and not instruction:
        raise wrong("Write what to change in the drawn part.")


def _drawn(steer: Steer, own: Settings) -> list[int]:
    """The seeds that a request draws: others of its task that are under way must not."""
    if steer.action not in ("more", "like", "refine"):
        return []
    plan = steer.planned(EditTask("", "", plan=own.plan), "").plan
    return [
        (t.noise.moves[-1] if steer.action in ON_PICKS else t.noise).seed
        for t in create(plan).ask()
    ]
