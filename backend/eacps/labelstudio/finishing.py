"""Finishes previews that were stopped early, once a person has ranked them in an annotation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eacps import log as logs
from eacps.domain import digest
from eacps.errors import EacpsError
from eacps.jobs.contract import INTERACTIVE_PRIORITY, Job, PanelLimits, PanelRequest
from eacps.labelstudio.cards.contract import is_ranking
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.cards.searches import finished_as, searches_in
from eacps.labelstudio.panel.recipes import continued_of, next_number, pick_of
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.origins import Origin, new_job
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.labelstudio.tasks.steering import Steer
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue

log = logging.getLogger(__name__)

MOST: int = 16
"""Previews of one annotation that are finished: more are not dragged out on purpose."""


def ranked_previews(data: Any, annotation: Mapping[str, Any]) -> list[str]:
    """The cards of previews that an annotation ranks, and that nobody has finished yet."""
    return [name for name in _ranked_previews(data, annotation) if name not in finished_as(data)]


def finish_ranked(
    data: Any, annotation: Mapping[str, Any], asked: Origin, settings: Settings, jobs: JobQueue
) -> int:
    """Submit a job for the rest of each preview that a submitted annotation ranks; returns how many
    are new."""
    if annotation.get("was_cancelled") or asked.refused or not asked.delivered:
        return 0
    count = 0
    for name in ranked_previews(data, annotation)[:MOST]:
        with logs.ids(project=asked.project, task=asked.task):
            try:
                is_new = _finish(name, data, asked, settings, jobs)
            except EacpsError as error:
                log.warning("the ranked preview %s is not finished: %s", name[:80], error)
                return count
            if is_new:
                log.info("the ranked preview %s is going to be finished", name[:80])
            count += is_new
    return count


def _ranked_previews(data: Any, annotation: Mapping[str, Any]) -> Iterator[str]:
    records = {card["id"]: mapping(card.get(RECORD)) for card in cards_of(data)}
    regions = filter(is_ranking, map(mapping, sequence(annotation.get("result"))))
    for region in regions:
        columns = mapping(mapping(region.get("value")).get("ranker"))
        for name in dict.fromkeys(map(text, sequence(columns.get("ranked")))):
            if records.get(name, {}).get("state") == "pruned":
                yield name


def _finish(name: str, data: Any, asked: Origin, settings: Settings, jobs: JobQueue) -> bool:
    place = shown_by(asked.label_studio, asked.task or 0)
    # Each preview is finished once, however often its annotation is updated.
    job = digest(["finish", place, name])
    if jobs.status(job) is not None:
        return False
    records = {card["id"]: mapping(card.get(RECORD)) for card in cards_of(data)}
    pick, search = pick_of(name, records[name])
    continued = continued_of(search, mapping(searches_in(data).get(search)))
    steer = Steer("finish", 0, 0, picks=(pick,), continued=continued, by="review")
    limits = PanelLimits(settings.panel_actions_per_day, settings.panel_candidates_per_day)

    def make(number: int, _others: frozenset[int]) -> tuple[Job, Sequence[int]]:
        origin = replace(asked, steer=replace(steer, n=number))
        return new_job(origin, INTERACTIVE_PRIORITY, job, settings=settings), []

    request = PanelRequest(job, place, "finish", 1)
    _number, is_new = jobs.ask_on_panel(request, limits, next_number(data), make)
    return is_new
