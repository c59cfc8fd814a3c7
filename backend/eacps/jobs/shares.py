"""Fair shares of the workers for projects, and their quotas.

Jobs of a batch get priorities as in start-time fair queueing: each project has a clock, which a job
moves on by its cost divided by the project's weight, and a job's priority is where the clock stood.
So while several projects have jobs waiting, the workers' time is divided by weight, however many
jobs one of them has queued.

A job over its project's quota is stored in a queue that nobody serves, and queued again on another
day. It is never lost: both happen in one transaction each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from eacps.domain import from_json, to_json
from eacps.jobs import names
from eacps.jobs.codec import encode
from eacps.jobs.contract import BATCH_PRIORITY, INTERACTIVE_PRIORITY, Job, OverQuota
from eacps.jobs.database import Records, exclusive_transaction, is_queued, is_running
from eacps.jobs.enqueueing import open_client
from eacps.settings import Settings

UNIT: Final = 10
"""How far a full render moves the clock of a project with weight 1."""
LAST_PRIORITY: Final = 2**31 - 2
PORTION: Final = 100
KEPT_DAYS: Final = 30


def today(moment: float | None = None) -> str:
    """The day whose quota counts, in UTC."""
    return datetime.fromtimestamp(time.time() if moment is None else moment, UTC).date().isoformat()


def weight_of(settings: Settings, project: str) -> float:
    """The weight of a project."""
    weights = settings.project_weights
    return weights.get(project, weights.get("*", 1.0))


def quota_of(settings: Settings, project: str) -> int | None:
    """The most candidates of a project on one day; None for no limit."""
    quotas = settings.project_quotas
    return quotas.get(project, quotas.get("*")) if project else None


def note_of(project: str, quota: int) -> str:
    """What a job that waits for tomorrow says."""
    return (
        f"Project {project} has used its {quota:,} candidates of today (EACPS_PROJECT_QUOTAS). "
        "This task is searched tomorrow, from midnight UTC on."
    )


class Shares:
    """Places jobs, within the one transaction that stores them."""

    def __init__(self, records: Records, settings: Settings) -> None:
        self._tables = records.tables
        self._settings = settings
        self._full: set[str] = set()

    def placed(self, connection: sa.Connection, jobs: Sequence[Job]) -> list[tuple[Job, str]]:
        """Each job with its priority, and the name of the queue that it belongs into."""
        over = {job.id for job in jobs if self._is_over_quota(connection, job)}
        timed = {
            job.id: job for job in self.timed(connection, [j for j in jobs if j.id not in over])
        }
        return [
            (job, names.WAITING_QUEUE)
            if job.id in over
            else (timed[job.id], names.queue_of(timed[job.id].priority))
            for job in jobs
        ]

    def keep_waiting(self, connection: sa.Connection, job: Job) -> None:
        """Note a job that was stored over quota."""
        quota = quota_of(self._settings, job.project) or 0
        waiting, events = self._tables.waiting, self._tables.events
        row = {"project": job.project, "candidates": job.candidates, "created": time.time()}
        connection.execute(sa.insert(waiting).values(job=job.id, told=False, **row))
        note = {"key": names.NOTE_EVENT, "value": encode(note_of(job.project, quota))}
        workflow = names.job_workflow(job.id)
        connection.execute(sa.insert(events).values(workflow_uuid=workflow, **note))

    def timed(self, connection: sa.Connection, jobs: Sequence[Job]) -> list[Job]:
        """The same jobs, those of a batch with the priorities of their projects."""
        projects = {job.project for job in jobs if job.priority > INTERACTIVE_PRIORITY}
        if not projects:
            return list(jobs)
        now = self._now(connection)
        clocks = self._clocks(connection, projects)
        placed = []
        for job in jobs:
            if job.priority > INTERACTIVE_PRIORITY:
                start = max(now, clocks.get(job.project, now))
                step = max(1, round(UNIT * job.cost / weight_of(self._settings, job.project)))
                clocks[job.project] = start + step
                placed.append(replace(job, priority=min(start, LAST_PRIORITY)))
            else:
                placed.append(job)
        self._set_clocks(connection, {name: clocks[name] for name in projects})
        return placed

    def _now(self, connection: sa.Connection) -> int:
        """Where a project without a queue begins: at the first job that waits."""
        status = self._tables.status
        priority, of_batches = status.c.priority, status.c.queue_name == names.JOBS_QUEUE
        first = sa.select(sa.func.min(priority)).where(of_batches, is_queued(status))
        found = connection.execute(first).scalar()
        if found is None:
            last = sa.select(sa.func.max(priority)).where(of_batches, is_running(status))
            found = connection.execute(last).scalar()
        if found is None:
            # Nobody has anything to share.
            connection.execute(sa.delete(self._tables.clocks))
        return max(BATCH_PRIORITY, int(found or 0))

    def _clocks(self, connection: sa.Connection, projects: set[str]) -> dict[str, int]:
        clocks = self._tables.clocks
        query = sa.select(clocks.c.project, clocks.c.clock).where(clocks.c.project.in_(projects))
        return {row.project: int(row.clock) for row in connection.execute(query)}

    def _set_clocks(self, connection: sa.Connection, moved: Mapping[str, int]) -> None:
        clocks = self._tables.clocks
        connection.execute(sa.delete(clocks).where(clocks.c.project.in_(list(moved))))
        rows = [
            {"project": project, "clock": min(clock, LAST_PRIORITY)}
            for project, clock in moved.items()
        ]
        connection.execute(sa.insert(clocks), rows)

    def _is_over_quota(self, connection: sa.Connection, job: Job) -> bool:
        quota = quota_of(self._settings, job.project)
        if quota is None:
            return False
        if job.project in self._full:
            return True
        # Behind those that wait already, or small tasks would always overtake large ones.
        waiting = self._tables.waiting
        ahead = sa.select(waiting.c.job).where(waiting.c.project == job.project).limit(1)
        enough = connection.execute(ahead).first() is None and spend(
            self._tables, connection, job.project, job.candidates, quota
        )
        if not enough:
            self._full.add(job.project)
        return not enough


def spend(
    tables: Any, connection: sa.Connection, project: str, candidates: int, quota: int, day: str = ""
) -> bool:
    """Count candidates of a project; False, without counting, if the day's quota does not suffice.
    The first task of a day may be larger than the quota, or it could never be searched."""
    usage, day = tables.usage, day or today()
    ours = sa.and_(usage.c.project == project, usage.c.day == day)
    used = connection.execute(sa.select(usage.c.candidates).where(ours)).scalar()
    if used is None:
        values = {"project": project, "day": day, "candidates": candidates}
        connection.execute(sa.insert(usage).values(**values))
        return True
    if used + candidates > quota:
        return False
    connection.execute(sa.update(usage).where(ours).values(candidates=used + candidates))
    return True


def release(records: Records, settings: Settings, moment: float | None = None) -> int:
    """Let those jobs begin for which there is quota again; returns how many."""
    waiting = records.tables.waiting
    with records.engine.connect() as connection:
        if connection.execute(sa.select(waiting.c.job).limit(1)).first() is None:
            return 0
        projects = list(connection.execute(sa.select(waiting.c.project).distinct()).scalars())
    number = 0
    for project in projects:
        while portion := _release_some(records, settings, project, today(moment)):
            number += portion
    _forget_old_days(records, moment)
    return number


def _release_some(records: Records, settings: Settings, project: str, day: str) -> int:
    """Release a portion of a project's jobs, in the order of their submission; returns how many
    rows are settled, which is 0 if the quota is used up."""
    tables = records.tables
    waiting, quota = tables.waiting, quota_of(settings, project)
    query = (
        sa.select(waiting.c.job, waiting.c.candidates)
        .where(waiting.c.project == project)
        .order_by(waiting.c.created, waiting.c.job)
        .limit(PORTION)
    )
    settled, released = [], []
    with exclusive_transaction(records.engine) as connection:
        rows = connection.execute(query).all()
        still = _still_waiting(tables, connection, [row.job for row in rows])
        for row in rows:
            if row.job in still:
                if quota is not None and not spend(
                    tables, connection, project, row.candidates, quota, day
                ):
                    break
                released.append(row.job)
            # Otherwise it was cancelled, or somebody has restarted it.
            settled.append(row.job)
        connection.execute(sa.delete(waiting).where(waiting.c.job.in_(settled)))
        _enqueue_again(records, settings, connection, released)
    return len(settled)


def _still_waiting(tables: Any, connection: sa.Connection, jobs: Sequence[str]) -> set[str]:
    status = tables.status
    query = sa.select(status.c.workflow_uuid).where(
        status.c.workflow_uuid.in_(list(map(names.job_workflow, jobs))),
        status.c.queue_name == names.WAITING_QUEUE,
        is_queued(status),
    )
    return {names.job_of(workflow) for workflow in connection.execute(query).scalars()}


def _enqueue_again(
    records: Records, settings: Settings, connection: sa.Connection, jobs: Sequence[str]
) -> None:
    """Put jobs into the queue of their project's share: nobody sits and waits for them any more."""
    client, shares = open_client(records), Shares(records, settings)
    rows = records.rows(map(names.job_workflow, jobs), connection, output=False)
    stored = [from_json(Job, rows[names.job_workflow(job)].input) for job in jobs]
    records.delete(rows, connection)
    for job in shares.timed(connection, [replace(j, priority=BATCH_PRIORITY) for j in stored]):
        workflow = names.job_workflow(job.id)
        options = names.enqueue_options(names.EDIT_TASK, workflow, job.priority)
        client.enqueue_in_transaction(connection, options, to_json(job))


def _forget_old_days(records: Records, moment: float | None) -> None:
    usage = records.tables.usage
    oldest = today((time.time() if moment is None else moment) - KEPT_DAYS * 86_400)
    with records.engine.begin() as connection:
        connection.execute(sa.delete(usage).where(usage.c.day < oldest))


def untold(records: Records, limit: int) -> Iterator[str]:
    """Jobs whose tasks do not say yet that they wait for tomorrow."""
    waiting = records.tables.waiting
    query = sa.select(waiting.c.job).where(~waiting.c.told).order_by(waiting.c.created).limit(limit)
    with records.engine.connect() as connection:
        yield from list(connection.execute(query).scalars())


def mark_told(records: Records, job: str) -> None:
    """The job's task says that it waits."""
    waiting = records.tables.waiting
    with records.engine.begin() as connection:
        connection.execute(sa.update(waiting).where(waiting.c.job == job).values(told=True))


def over_quota(records: Records, settings: Settings) -> list[OverQuota]:
    """The projects whose jobs wait for tomorrow."""
    waiting = records.tables.waiting
    query = (
        sa.select(waiting.c.project, sa.func.count().label("jobs"))
        .group_by(waiting.c.project)
        .order_by(waiting.c.project)
    )
    with records.engine.connect() as connection:
        rows = connection.execute(query).all()
    return [OverQuota(row.project, row.jobs, quota_of(settings, row.project) or 0) for row in rows]
