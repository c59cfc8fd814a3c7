"""A queue in memory, a fabricated result, small images."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from eacps.domain import (
    Candidate,
    EditTask,
    Failure,
    Metric,
    Move,
    Noise,
    SearchPlan,
    SearchResult,
    Trial,
)
from eacps.jobs.client import NoSuchJobError
from eacps.jobs.contract import (
    STATES,
    Delays,
    Job,
    JobFilter,
    JobPage,
    JobState,
    JobStatus,
    MakeJob,
    OverQuota,
    PageEnd,
    PanelLimits,
    PanelRequest,
    PanelToday,
    Search,
    WaitingBatches,
    WorkerStatus,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "label_studio_requests"


class Queue:
    """A JobQueue in memory: each test decides what becomes of a job."""

    def __init__(self) -> None:
        self.entries: dict[str, JobStatus] = {}
        self.priorities: dict[str, int] = {}
        self.outcomes: dict[str, SearchResult | Failure] = {}
        self.retried: list[str] = []
        self.restarted: list[str] = []
        self.subjects: dict[str, str] = {}
        self.searches: dict[str, Search] = {}
        self.revocations: dict[str, float] = {}
        self.parameters: dict[str, str] = {}

    def submit(self, job: Job) -> bool:
        return self.submit_many([job]) == 1

    def submit_many(self, jobs: Sequence[Job]) -> int:
        new = {job.id: job for job in jobs if job.id not in self.entries}
        for job in new.values():
            json.dumps(job.origin)
            now = time.time()
            self.priorities[job.id] = job.priority
            self.subjects[job.id] = job.subject
            self.entries[job.id] = JobStatus(
                job.id, "queued", 3, 8, 0.5, origin=job.origin, created=now, updated=now
            )
        return len(new)

    def status(self, job: str) -> JobStatus | None:
        return self.entries.get(job)

    def statuses(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        return {job: self.entries[job] for job in jobs if job in self.entries}

    def list(self, limit: int = 50, state: JobState | None = None) -> Sequence[JobStatus]:
        newest = reversed(self.entries.values())
        return [entry for entry in newest if state in (None, entry.state)][:limit]

    def page(self, wanted: JobFilter, limit: int, after: PageEnd | None = None) -> JobPage:
        found = [entry for entry in self.list(1000, wanted.state) if _fits(entry, wanted)]
        begin = next((n + 1 for n, entry in enumerate(found) if after and entry.id == after.id), 0)
        shown = found[begin : begin + limit]
        more = len(found) > begin + limit
        return JobPage(
            shown, PageEnd(int(shown[-1].created * 1000), shown[-1].id) if more else None
        )

    def number(self, wanted: JobFilter, most: int) -> int:
        return min(most, len(self.page(wanted, 1000).jobs))

    def projects(self) -> Sequence[int]:
        found = {entry.origin.get("project") for entry in self.entries.values()}
        return sorted(project for project in found if project)

    def failure_codes(self) -> Sequence[str]:
        failures = [entry.failure for entry in self.entries.values()]
        return sorted({failure.code for failure in failures if failure})

    def places(self, jobs: Iterable[str]) -> Mapping[str, int]:
        waiting = [entry.id for entry in self.entries.values() if entry.state == "queued"]
        return {job: waiting.index(job) + 1 for job in jobs if job in waiting}

    def speed(self) -> float:
        return 0.0

    def ended_by_time(self, since: float, seconds: int) -> Mapping[tuple[JobState, int], int]:
        ended = [entry for entry in self.entries.values() if entry.state in ("done", "failed")]
        slots = ((entry.state, int((entry.updated - since) // seconds)) for entry in ended)
        return Counter(slot for slot in slots if slot[1] >= 0)

    def cancel(self, job: str) -> bool:
        if job not in self.entries:
            raise NoSuchJobError(f"There is no job {job!r}.")
        if self.entries[job].state not in ("queued", "running", "delivering"):
            return False
        self.entries[job] = replace(self.entries[job], state="cancelled", updated=time.time())
        return True

    def result(self, job: str, timeout: float = 0.0) -> SearchResult | Failure | None:
        return self.outcomes.get(job)

    def retry(self, job: str) -> bool:
        if job not in self.entries:
            raise NoSuchJobError(f"There is no job {job!r}.")
        if self.entries[job].state not in ("failed", "cancelled"):
            return False
        self.retried.append(job)
        self._begin_again(job)
        return True

    def restart(self, job: str) -> bool:
        self.restarted.append(job)
        if job not in self.entries:
            return False
        self._begin_again(job)
        return True

    def _begin_again(self, job: str) -> None:
        self.outcomes.pop(job, None)
        self.entries[job] = replace(
            self.entries[job], state="queued", failure=None, updated=time.time()
        )

    def ended_since(self, moment: float) -> int:
        return 0

    def counts(self) -> Mapping[JobState, int]:
        found = Counter(entry.state for entry in self.entries.values())
        return {state: found[state] for state in STATES}

    def waiting(self) -> Sequence[WaitingBatches]:
        return []

    def over_quota(self) -> Sequence[OverQuota]:
        return []

    def delays(self) -> Delays:
        return Delays(retrying={"prepare": 0, "deliver": 0})

    def extra_params(self, project: str) -> str:
        return self.parameters.get(project, "")

    def remember_extra_params(self, project: str, content: str) -> bool:
        changed = self.parameters.get(project, "") != content
        self.parameters[project] = content
        return changed

    def check(self) -> None:
        return None

    def about(self, subject: str, limit: int = 50) -> Sequence[JobStatus]:
        newest = reversed(self.entries.values())
        return [entry for entry in newest if self.subjects.get(entry.id) == subject][:limit]

    def ahead(self, status: JobStatus) -> int | None:
        return 2 if status.state == "queued" else None

    def search(self, key: str) -> Search | None:
        return self.searches.get(key)

    def ask_on_panel(
        self, request: PanelRequest, limits: PanelLimits, least: int, make: MakeJob
    ) -> tuple[int, bool]:
        raise NotImplementedError

    def panel_today(self, place: str) -> PanelToday:
        return PanelToday()

    def recent_results(self, limit: int) -> Sequence[SearchResult]:
        return []

    def revoke(self, scope: str) -> float:
        self.revocations[scope] = time.time()
        return self.revocations[scope]

    def revoked(self, scopes: Iterable[str]) -> Mapping[str, float]:
        return {each: self.revocations[each] for each in scopes if each in self.revocations}

    def workers(self) -> Sequence[WorkerStatus]:
        return [
            WorkerStatus("here/device-0", "worker", "cpu", 1, 2.0, time.time()),
            WorkerStatus(
                *("here/device-1", "worker", "cpu", 2, 2.0, time.time()),
                note="the disk is full",
            ),
        ]

    def end(
        self,
        outcome: SearchResult | Failure,
        state: JobState | None = None,
        *,
        seconds_ago: float = 60.0,
    ) -> str:
        """End the only job; returns its id."""
        [entry] = self.entries.values()
        failure = outcome if isinstance(outcome, Failure) else None
        state = state or ("failed" if failure else "done")
        self.outcomes[entry.id] = outcome
        updated = time.time() - seconds_ago
        self.entries[entry.id] = replace(entry, state=state, failure=failure, updated=updated)
        return entry.id


def _fits(entry: JobStatus, wanted: JobFilter) -> bool:
    code = entry.failure.code if entry.failure else ""
    return (
        wanted.project in (None, entry.origin.get("project"))
        and wanted.task in (None, entry.origin.get("task"))
        and wanted.code in ("", code)
    )


def png(width: int = 40, height: int = 30, colour: Any = "red", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def make_result(count: int = 3, *, failed: int = 1, **changes: Any) -> SearchResult:
    """A search's end: `count` usable candidates, best first, then the failed ones."""
    candidates = []
    for index in range(count):
        noise = Noise(7 + index) if index < 2 else Noise(7, (Move(0.4, 9),))
        parent = None if index < 2 else "c1"
        potential = 0.8 - index / 10
        candidates.append(
            Candidate(
                Trial(f"c{index + 1}", noise, "local" if parent else "global", 0, parent),
                image=f"{index:040x}.png",
                thumbnail=f"{index:040x}.jpg",
                metrics=(
                    Metric("pf", 0.3, 0.5, 1.0, 0.3),
                    Metric("lpips", 0.2, 0.2, -3.0, -0.6),
                ),
                potential=potential,
                nfe=24,
                seconds=1.0,
            )
        )
    for index in range(failed):
        trial = Trial(f"c{count + index + 1}", Noise(99 + index))
        candidates.append(Candidate(trial, failure=Failure("editor_failed", "Out of memory.")))
    task = EditTask(
        image=f"{1:040x}.png",
        instruction="add a scarf",
        route_reason="label “local edit” in the task's field `route`",
        plan=SearchPlan(),
        fingerprint="0123456789",
    )
    result = SearchResult(task, tuple(candidates), nfe=72, seconds=3.2, editor="tiny")
    return replace(result, **changes)
