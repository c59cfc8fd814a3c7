"""`eacps search-again`: searches finished tasks again after a change of settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from eacps.errors import TaskError
from eacps.jobs.contract import BATCH_PRIORITY, JobQueue
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.tasks.extra_params import ExtraParams
from eacps.labelstudio.tasks.origins import (
    META,
    Origin,
    has_result,
    new_job,
    origin_of,
    project_version,
    request_in,
)
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.settings import Settings

Fate = Literal["queued", "current", "annotated", "waiting"]
FATES: Final[Mapping[Fate, str]] = {
    "queued": "searched again",
    "current": "keep their result, which was made with these settings",
    "annotated": "keep their result, because annotations refer to its candidates",
    "waiting": "are already queued or running",
}


@dataclass(frozen=True)
class Again:
    """What happens to a project's tasks: task numbers by fate."""

    model_version: str
    tasks: Mapping[Fate, Sequence[int]]

    @property
    def counts(self) -> Counter[Fate]:
        """The number of tasks by fate."""
        return Counter({fate: len(numbers) for fate, numbers in self.tasks.items()})


def search_again(
    settings: Settings,
    client: LabelStudioClient,
    jobs: JobQueue,
    project: int,
    *,
    only: Sequence[tuple[int, int]] = (),
    dry_run: bool = False,
) -> Again:
    """Queue a new search for all tasks of a project with results from other settings.

    `only` restricts this to ranges of task numbers, given by their first and last number.
    """
    found = client.project(project)
    tasks = client.list_rows(
        f"/api/projects/{project}/export", exportType="JSON", download_all_tasks="true"
    )
    numbers = [int(task["id"]) for task in tasks]
    for first, last in only:
        if not any(first <= number <= last for number in numbers):
            wanted = f"task {first}" if first == last else f"tasks {first} to {last}"
            raise TaskError(f"Project {project} has no {wanted}.", hint="Correct --task-ids.")
    extra = ExtraParams(settings, jobs).of(project)
    config = found.get("label_config")
    fates: dict[Fate, list[int]] = {fate: [] for fate in FATES}
    for number, task in zip(numbers, tasks, strict=True):
        if only and not any(first <= number <= last for first, last in only):
            continue
        asked = origin_of(task, settings, label_config=config, project=found, extra_params=extra)
        fates[_fate(task, asked, settings, jobs, dry_run)].append(number)
    return Again(project_version(config, extra, settings), fates)


def _fate(
    task: Mapping[str, Any], asked: Origin, settings: Settings, jobs: JobQueue, dry_run: bool
) -> Fate:
    held = has_result(task, asked)
    version = text(request_in(mapping(mapping(task.get("data")).get(META))).get("model_version"))
    if held and version == asked.model_version:
        return "current"
    if held and any(
        not mapping(annotation).get("was_cancelled")
        for annotation in sequence(task.get("annotations"))
    ):
        return "annotated"
    status = jobs.status(asked.job_id)
    if status and status.state in ("queued", "running", "delivering"):
        return "waiting"
    if not dry_run:
        if status is None:
            jobs.submit(new_job(asked, BATCH_PRIORITY, settings=settings))
        else:
            jobs.restart(asked.job_id)
    return "queued"
