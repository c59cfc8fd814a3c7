"""`eacps rescore --project`: a project's finished tasks under other judges or another potential.

Nothing is rendered. Each task gets the new order as its prediction, with cards of its own; the
cards of before stay as they are, and tasks with annotations are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from eacps import fingerprints
from eacps.artifacts import MissingArtifactError, open_store
from eacps.domain import SearchResult, to_json
from eacps.errors import EacpsError, TaskError
from eacps.jobs.client import JobClient
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.extra_params import ExtraParams
from eacps.labelstudio.tasks.origins import META, Origin, has_result, origin_of
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.offline.judging.rescoring import Rescored, judged_again
from eacps.runner import potential_of
from eacps.runner.judging import Judge
from eacps.scoring import open_scorers
from eacps.settings import Settings

CURRENT: Final = "has a result of these settings"
ANNOTATED: Final = "has annotations, which refer to the candidates of its result"


@dataclass(frozen=True)
class Skipped:
    """A task that keeps its result, and why."""

    name: str
    why: str


def rescore_project(
    settings: Settings,
    client: LabelStudioClient,
    jobs: JobClient,
    project: int,
    device: str,
    *,
    only: Sequence[tuple[int, int]] = (),
) -> Iterator[Rescored | Skipped]:
    """Judge the finished tasks of a project again, and deliver what changed."""
    found = client.project(project)
    tasks = client.list_rows(
        f"/api/projects/{project}/export", exportType="JSON", download_all_tasks="true"
    )
    extra = ExtraParams(settings, jobs).of(project)
    store = open_store(settings)
    potential = potential_of(settings, "edit", with_reference=False)
    judge = Judge(open_scorers(settings, device, potential.metric_names), potential, settings)
    hooks = LabelStudioHooks(settings, store, jobs)
    config = found.get("label_config")
    for task in tasks:
        number = int(task["id"])
        if only and not any(first <= number <= last for first, last in only):
            continue
        asked = origin_of(task, settings, label_config=config, project=found, extra_params=extra)
        if not has_result(task, asked):
            continue
        if why := _kept(task, asked):
            yield Skipped(f"task {number}", why)
            continue
        try:
            result = _result(jobs, client.url, number)
            judged = judged_again(result, judge, store, settings)
            yield _delivered(f"task {number}", result, judged, asked, hooks, settings)
        except (EacpsError, MissingArtifactError) as error:
            yield Rescored(f"task {number}", problem=str(error))


def _kept(task: Mapping[str, Any], asked: Origin) -> str:
    """Why a task keeps its result; empty if it is judged again."""
    meta = mapping(mapping(task.get("data")).get(META))
    if text(meta.get("model_version")) == asked.model_version and _is_judged(task, meta):
        return CURRENT
    annotations = map(mapping, sequence(task.get("annotations")))
    return ANNOTATED if any(not each.get("was_cancelled") for each in annotations) else ""


def _is_judged(task: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
    """Whether the order of a task's candidates says anything."""
    best = next(iter(sequence(meta.get("ranked"))), None)
    cards = {card["id"]: mapping(card.get(RECORD)) for card in cards_of(mapping(task.get("data")))}
    return cards.get(str(best), {}).get("potential") is not None


def _result(jobs: JobClient, url: str, task: int) -> SearchResult:
    """The newest result of the task's own request that is still stored."""
    for status in jobs.about(shown_by(url, task)):
        if status.key and not status.origin.get("steer"):
            found = jobs.result(status.id)
            if isinstance(found, SearchResult):
                return found
    raise TaskError(
        "Its search is no longer stored.",
        hint="`eacps search-again` searches it again; pictures that are stored are only judged.",
    )


def _delivered(
    name: str,
    result: SearchResult,
    judged: SearchResult,
    asked: Origin,
    hooks: LabelStudioHooks,
    settings: Settings,
) -> Rescored:
    if result.task.route != "edit":
        words = f"Route {result.task.route} has its own metrics; it stays as it was."
        return Rescored(name, problem=words)
    if not judged.usable:
        failures = (one.failure for one in judged.candidates if not one.pruned)
        failure = next(filter(None, failures), None)
        return Rescored(name, problem=failure.message if failure else "Nothing was judged.")
    task = replace(
        judged.task,
        model_version=asked.model_version,
        fingerprint=settings.fingerprint,
        judged=fingerprints.judged(settings),
    )
    hooks.deliver(to_json(asked), replace(judged, task=task))
    return Rescored(name, result.best.id, judged.best.id)
