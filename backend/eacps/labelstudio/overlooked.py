"""Finds the tasks that Label Studio announced while nobody listened: it announces a task once."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from eacps.files import write_atomically
from eacps.jobs.contract import BATCH_PRIORITY, Job, KnownOrigins
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.connections import connected_projects
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.labelstudio.model_versions import show_version
from eacps.labelstudio.tasks.extra_params import ExtraParams, Memory
from eacps.labelstudio.tasks.origins import META, new_job, origin_of, project_version
from eacps.labelstudio.tasks.regions import mapping, text
from eacps.settings import Settings

log = logging.getLogger(__name__)

PAGE: Final = 50
OVERLAP_SECONDS: Final = 600.0
"""Tasks become visible in another order than they are stamped in."""
CLOCK_SECONDS: Final = 86_400.0
"""How far Label Studio's clock may be from that of the jobs database."""
DAY_SECONDS: Final = 86_400.0
_LATER: Final = ("annotations", "predictions", "drafts")
"""What a webhook does not contain. Without it, the job is the one that the webhook would make."""


class Overlooked:
    """The tasks of connected projects that have neither a job nor a result.

    Tasks from before a project was connected do not count: nobody asked for them.
    """

    def __init__(self, settings: Settings, client: LabelStudioClient, memory: Memory) -> None:
        self._settings = settings
        self._client = client
        self._extra_params = memory
        self._memory = _Memory(settings.data_dir / "catch-up.json")

    def jobs(self, known: KnownOrigins) -> Iterator[Sequence[Job]]:
        """Jobs for these tasks, in portions, project by project."""
        for project, connected in connected_projects(
            self._client, self._settings.resolved_public_url
        ):
            try:
                extra = ExtraParams(self._settings, self._extra_params).of(int(project["id"]))
                version = project_version(project.get("label_config"), extra, self._settings)
                show_version(self._client, project, version, self._settings)
                yield from self._of_project(project, connected, known)
            except LabelStudioError as error:
                if isinstance(error, LabelStudioDownError) and not error.only_here:
                    raise
                log.warning("project %s cannot be looked through: %s", project["id"], error)

    def _of_project(
        self, project: Mapping[str, Any], connected: float, known: KnownOrigins
    ) -> Iterator[Sequence[Job]]:
        name = f"{self._client.url} {project['id']}"
        # Jobs are forgotten after the retention; older tasks may have had one.
        kept = time.time() - self._settings.retention_days * DAY_SECONDS
        since = max(connected, kept, self._memory.looked_until(name) - OVERLAP_SECONDS)
        newest = 0.0
        taken: set[int] | None = None
        # Unlike the other listings, this one does not ask the ML backend, i.e. this program. The
        # tasks that changed last come first.
        for rows in self._client.pages(f"/api/projects/{project['id']}/tasks/", PAGE):
            changed = [_moment(row.get("updated_at")) for row in rows]
            newest = max(newest, *changed)
            new = [row for row in rows if _moment(row.get("created_at")) >= since and _bare(row)]
            if new and taken is None:
                taken = self._tasks_of(known(since - CLOCK_SECONDS))
            if new and taken is not None:
                yield [self._job(row, project) for row in new if int(row["id"]) not in taken]
            if changed[-1] < since:
                break
        if newest:
            self._memory.remember(name, newest)

    def _tasks_of(self, origins: Any) -> set[int]:
        own = self._settings.label_studio_url
        return {
            origin["task"]
            for origin in origins
            if origin.get("label_studio") == own and origin.get("task") is not None
        }

    def _job(self, row: Mapping[str, Any], project: Mapping[str, Any]) -> Job:
        announced = {name: value for name, value in row.items() if name not in _LATER}
        origin = origin_of(
            announced,
            self._settings,
            label_config=project.get("label_config"),
            project=dict(project),
            extra_params=ExtraParams(self._settings, self._extra_params).of(int(project["id"])),
        )
        return new_job(origin, BATCH_PRIORITY, settings=self._settings)


class _Memory:
    """Up to which moment each project was looked through, in a file.

    The moment before the last one counts, so that every task is looked at twice: a task that was
    deleted between two pages moves another one to the page that was read already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def looked_until(self, name: str) -> float:
        return self._read().get(name, (0.0, 0.0))[0]

    def remember(self, name: str, moment: float) -> None:
        known = self._read()
        known[name] = (known.get(name, (0.0, 0.0))[1], moment)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(known, indent=1).encode())

    def _read(self) -> dict[str, tuple[float, float]]:
        try:
            content = json.loads(self._path.read_text())
            return {name: (float(one), float(two)) for name, (one, two) in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # Then everything is looked through once more.
            return {}


def _bare(row: Mapping[str, Any]) -> bool:
    """Whether a task has neither a result nor a report of ours."""
    return META not in mapping(row.get("data"))


def _moment(value: Any) -> float:
    try:
        return datetime.fromisoformat(text(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
