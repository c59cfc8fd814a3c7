"""An index of jobs by state, so that counting and listing them takes the same time however many
jobs are kept. Triggers note which jobs changed (triggers.py); readers bring the index up to date.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.codec import encode
from eacps.jobs.contract import STATES, JobFilter, JobState, PageEnd
from eacps.jobs.database import INDEX_LOCK, Records, exclusive_transaction, is_queued

PORTION = 500
MOST_DIFFERENT = 500
LONGEST_WINDOW = 3600.0
SHORTEST_WINDOW = 300.0
"""The seconds within which jobs are counted to know how fast they end."""
_STATE_OF_ENDED: Mapping[str, JobState] = {"CANCELLED": "cancelled", "SUCCESS": "done"}


def state_of(job: str, failed: bool, delivery: str | None, undelivered: bool) -> JobState:
    """The state of a job, from the statuses of its own workflow and of its delivery."""
    if job in names.QUEUED:
        return "queued"
    if job == "PENDING":
        return "running"
    if job != "SUCCESS" or failed:
        return "cancelled" if job == "CANCELLED" else "failed"
    if delivery is None:
        return "done"
    if delivery not in names.ENDED:
        return "delivering"
    return "failed" if undelivered else _STATE_OF_ENDED.get(delivery, "failed")


class JobIndex:
    """Jobs by state. Every method first brings the index up to date."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._tables = records.tables

    def counts(self) -> dict[JobState, int]:
        """The number of jobs in each state."""
        self.refresh()
        with self._records.engine.connect() as connection:
            stored = {row.state: row.number for row in connection.execute(self._totals())}
        return {state: stored.get(state, 0) for state in STATES}

    def newest(self, state: JobState, limit: int) -> list[str]:
        """The ids of the newest jobs in a state."""
        self.refresh()
        jobs = self._tables.jobs
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == state)
            .order_by(jobs.c.created.desc(), jobs.c.id)
            .limit(limit)
        )
        with self._records.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def page(self, wanted: JobFilter, limit: int, after: PageEnd | None = None) -> list[PageEnd]:
        """Some jobs, newest first, from the beginning or after another page."""
        self.refresh()
        jobs = self._tables.jobs
        query = (
            sa.select(jobs.c.created, jobs.c.id)
            .where(*self._conditions(wanted))
            .order_by(jobs.c.created.desc(), jobs.c.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(
                # Not a comparison of pairs, which would not use the index.
                jobs.c.created <= after.created,
                sa.or_(jobs.c.created < after.created, jobs.c.id > after.id),
            )
        with self._records.engine.connect() as connection:
            return [PageEnd(row.created, row.id) for row in connection.execute(query)]

    def number(self, wanted: JobFilter, most: int) -> int:
        """The number of jobs, counted up to `most`."""
        self.refresh()
        jobs = self._tables.jobs
        some = sa.select(sa.literal(1)).select_from(jobs).where(*self._conditions(wanted))
        query = sa.select(sa.func.count()).select_from(some.limit(most).subquery())
        with self._records.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def _conditions(self, wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
        jobs = self._tables.jobs
        found = [
            column == value
            for column, value in (
                (jobs.c.state, wanted.state),
                (jobs.c.project, wanted.project),
                (jobs.c.task, wanted.task),
                (jobs.c.code, wanted.code or None),
            )
            if value is not None
        ]
        # Otherwise the index of all jobs, newest first, would not be used by every database.
        return found or [jobs.c.created >= 0]

    def projects(self) -> list[int]:
        """The projects of the jobs that are kept."""
        self.refresh()
        return [project for project in self._different(self._tables.jobs.c.project) if project]

    def codes(self) -> list[str]:
        """The codes with which jobs have failed."""
        self.refresh()
        return self._different(self._tables.jobs.c.code)

    def _different(self, column: sa.Column[Any]) -> list[Any]:
        """The different values of a column, by one look into its index for each."""
        jobs = self._tables.jobs
        first = sa.select(sa.func.min(column).label("value")).where(column.is_not(None))
        values = first.cte(recursive=True)
        following = sa.select(sa.func.min(column)).where(column > values.c.value)
        values = values.union_all(
            sa.select(following.correlate(values).select_from(jobs).scalar_subquery()).where(
                values.c.value.is_not(None)
            )
        )
        query = sa.select(values.c.value).where(values.c.value.is_not(None)).limit(MOST_DIFFERENT)
        with self._records.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def places(self, ids: Collection[str]) -> dict[str, int]:
        """The places of queued jobs in the order in which they begin, from 1: people who wait come
        first, then projects by their shares. Jobs over quota have none."""
        status = self._tables.status
        workflows = [names.job_workflow(job) for job in ids]
        asked = sa.select(
            status.c.workflow_uuid, status.c.queue_name, status.c.priority, status.c.created_at
        ).where(status.c.workflow_uuid.in_(workflows), is_queued(status))
        found: dict[str, int] = {}
        ahead = 0
        with self._records.engine.connect() as connection:
            rows = connection.execute(asked).all()
            for queue in (names.INTERACTIVE_QUEUE, names.JOBS_QUEUE):
                of_queue = [row for row in rows if row.queue_name == queue]
                moments = sorted({(row.priority, row.created_at) for row in of_queue})
                before = self._before(connection, queue, moments)
                for row in of_queue:
                    place = ahead + before[(row.priority, row.created_at)] + 1
                    found[names.job_of(row.workflow_uuid)] = place
                ahead += self._queued(connection, queue)
        return found

    def _before(
        self, connection: sa.Connection, queue: str, moments: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], int]:
        """How many jobs of a queue begin before each of these moments, which are in order."""
        if not moments:
            return {}
        status = self._tables.status
        # Only what lies between two moments, so that nothing is counted twice.
        names_of_ends = ("low", "low_created", "high", "high_created")
        gaps = (
            sa.values(*(sa.column(name, sa.BigInteger) for name in names_of_ends))
            .data([(*low, *high) for low, high in pairwise([(0, 0), *moments])])
            .cte("gaps")
        )
        position = sa.tuple_(status.c.priority, status.c.created_at)
        between = sa.select(sa.func.count()).where(
            status.c.queue_name == queue,
            is_queued(status),
            position >= sa.tuple_(gaps.c.low, gaps.c.low_created),
            position < sa.tuple_(gaps.c.high, gaps.c.high_created),
        )
        query = sa.select(
            gaps.c.high, gaps.c.high_created, between.correlate(gaps).scalar_subquery()
        )
        counts = {(int(row[0]), int(row[1])): int(row[2]) for row in connection.execute(query)}
        sums = accumulate(counts[moment] for moment in moments)
        return dict(zip(moments, sums, strict=True))

    def _queued(self, connection: sa.Connection, queue: str) -> int:
        status = self._tables.status
        query = sa.select(sa.func.count()).where(status.c.queue_name == queue, is_queued(status))
        return int(connection.execute(query).scalar_one())

    def speed(self) -> float:
        """Jobs that ended per second, for as long as there has been a queue, and at most within the
        last hour; 0 if there is no queue."""
        self.refresh()
        jobs = self._tables.jobs
        oldest = sa.select(sa.func.min(jobs.c.created)).where(jobs.c.state == "queued")
        with self._records.engine.connect() as connection:
            created = connection.execute(oldest).scalar_one()
        if created is None:
            return 0.0
        window = min(LONGEST_WINDOW, max(SHORTEST_WINDOW, time.time() - created / 1000))
        return float(self.ended_since(time.time() - window) / window)

    def ended_by_time(self, since: float, seconds: int) -> dict[tuple[JobState, int], int]:
        """How many jobs were done or failed since a moment, by state and by slots that are so many
        seconds long."""
        self.refresh()
        jobs = self._tables.jobs
        start = int(since * 1000)
        slot = ((jobs.c.updated - start) // (1000 * seconds)).label("slot")
        query = (
            sa.select(jobs.c.state, slot, sa.func.count())
            .where(jobs.c.state.in_(("done", "failed")), jobs.c.updated >= start)
            .group_by(jobs.c.state, slot)
        )
        with self._records.engine.connect() as connection:
            return {(row[0], int(row[1])): int(row[2]) for row in connection.execute(query)}

    def failed(self, since: float = 0.0, code: str = "") -> dict[str, str]:
        """The codes of failed jobs by id: of those that failed since a moment, with that code."""
        self.refresh()
        jobs = self._tables.jobs
        query = (
            sa.select(jobs.c.id, jobs.c.code)
            .where(jobs.c.state == "failed", jobs.c.updated >= int(since * 1000))
            .order_by(jobs.c.created.desc(), jobs.c.id)
        )
        if code:
            query = query.where(jobs.c.code == code)
        with self._records.engine.connect() as connection:
            return {row.id: row.code or "" for row in connection.execute(query)}

    def undelivered(self) -> list[str]:
        """The ids of jobs whose delivery failed for a reason that may pass."""
        self.refresh()
        jobs = self._tables.jobs
        query = sa.select(jobs.c.id).where(jobs.c.state == "failed", jobs.c.temporary)
        with self._records.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def ended_since(self, moment: float) -> int:
        """The number of jobs that ended since a moment."""
        self.refresh()
        jobs = self._tables.jobs
        query = sa.select(sa.func.count()).where(
            jobs.c.state.in_(("done", "failed")), jobs.c.updated >= int(moment * 1000)
        )
        with self._records.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def ended_before(self, moment: float, limit: int) -> list[str]:
        """The ids of some jobs that ended before a moment."""
        self.refresh()
        jobs = self._tables.jobs
        query = (
            sa.select(jobs.c.id)
            .where(
                jobs.c.state.in_(("done", "failed", "cancelled")),
                jobs.c.updated <= int(moment * 1000),
            )
            .limit(limit)
        )
        with self._records.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def keys_in_use(self, keys: Collection[str], connection: sa.Connection) -> set[str]:
        """Those of these keys whose search some job needs."""
        jobs, events = self._tables.jobs, self._tables.events
        stored = sa.select(jobs.c.key).where(jobs.c.key.in_(keys))
        # The index learns the key of an unfinished job only when it ends.
        unfinished = (
            sa.select(events.c.value)
            .join(jobs, events.c.workflow_uuid == sa.literal("job:") + jobs.c.id)
            .where(
                jobs.c.state.in_(("queued", "running")),
                events.c.key == names.KEY_EVENT,
            )
        )
        found = set(connection.execute(stored).scalars())
        return found | {json.loads(value) for value in connection.execute(unfinished).scalars()}

    def refresh(self) -> None:
        """Bring the index up to date."""
        changed = sa.select(self._tables.changed_jobs.c.id).limit(1)
        while True:
            with self._records.engine.connect() as connection:
                if connection.execute(changed).first() is None:
                    return
            with exclusive_transaction(self._records.engine, INDEX_LOCK) as connection:
                self._refresh_some(connection)

    def _refresh_some(self, connection: sa.Connection) -> None:
        changed, jobs = self._tables.changed_jobs, self._tables.jobs
        rows = connection.execute(
            sa.select(changed.c.id, changed.c.workflow).order_by(changed.c.id).limit(PORTION)
        ).all()
        # By id: rows with smaller ids may be committed later.
        connection.execute(sa.delete(changed).where(changed.c.id.in_([row.id for row in rows])))
        ids = {row.workflow.split(":", 1)[1] for row in rows}
        before = sa.select(jobs.c.id, jobs.c.state, jobs.c.project, jobs.c.task).where(
            jobs.c.id.in_(ids)
        )
        old = {row.id: row for row in connection.execute(before)}
        connection.execute(sa.delete(jobs).where(jobs.c.id.in_(old)))
        known = {
            job: (row.project, row.task) for job, row in old.items() if row.project is not None
        }
        new = self._described(connection, ids, known)
        if new:
            connection.execute(sa.insert(jobs), new)
        self._count(connection, [row.state for row in old.values()], [row["state"] for row in new])

    def _count(self, connection: sa.Connection, gone: Iterable[str], come: Iterable[str]) -> None:
        totals = self._tables.totals
        numbers = {row.state: row.number for row in connection.execute(self._totals())}
        after = dict(numbers)
        for state, step in [*((each, -1) for each in gone), *((each, 1) for each in come)]:
            after[state] = after.get(state, 0) + step
        for state, number in after.items():
            if state not in numbers:
                connection.execute(sa.insert(totals).values(state=state, number=number))
            elif number != numbers[state]:
                change = sa.update(totals).where(totals.c.state == state)
                connection.execute(change.values(number=number))

    def _totals(self) -> sa.Select[Any]:
        totals = self._tables.totals
        return sa.select(totals.c.state, totals.c.number)

    def _described(
        self,
        connection: sa.Connection,
        ids: Collection[str],
        known: Mapping[str, tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """The index's rows of these jobs, without those that no longer exist. `known` are the
        projects and tasks of some of them, which never change."""
        workflows = [*map(names.job_workflow, ids), *map(names.delivery_workflow, ids)]
        rows = {row.id: row for row in connection.execute(self._outcomes(workflows))}
        events = self._tables.events
        keyed = sa.select(events.c.workflow_uuid, events.c.value).where(
            events.c.key == names.KEY_EVENT,
            events.c.workflow_uuid.in_([names.job_workflow(job) for job in ids]),
        )
        keys = {row.workflow_uuid: json.loads(row.value) for row in connection.execute(keyed)}
        there = [job for job in ids if names.job_workflow(job) in rows]
        owners = {**known, **self._owners(connection, [job for job in there if job not in known])}
        found = []
        for job in there:
            name = names.job_workflow(job)
            entry = _entry(rows[name], rows.get(names.delivery_workflow(job)))
            project, task = owners.get(job, (0, 0))
            entry |= {"id": job, "key": keys.get(name), "project": project, "task": task}
            found.append(entry)
        return found

    def _owners(self, connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The projects and tasks of jobs, from what they were submitted with."""
        rows = self._records.rows(map(names.job_workflow, ids), connection, output=False)
        return {
            names.job_of(name): (_number(row.input, "project"), _number(row.input, "task"))
            for name, row in rows.items()
        }

    def _outcomes(self, workflows: Sequence[str]) -> sa.Select[Any]:
        status, output = self._tables.status, self._tables.output
        stored = sa.func.coalesce(output.c.output, status.c.output)
        return (
            sa.select(
                status.c.workflow_uuid.label("id"),
                status.c.status,
                status.c.created_at.label("created"),
                sa.func.coalesce(status.c.completed_at, status.c.updated_at).label("updated"),
                # Usually there is no failure, which then needs no parsing.
                sa.case((stored != encode({"failure": None}), stored)).label("output"),
            )
            .outerjoin(output, output.c.workflow_uuid == status.c.workflow_uuid)
            .where(status.c.workflow_uuid.in_(workflows))
        )


def _entry(job: Any, delivery: Any | None) -> dict[str, Any]:
    failure = _outcome(job).get("failure")
    delivered = _outcome(delivery)
    undelivered = delivered.get("failure")
    state = state_of(
        job.status, bool(failure), delivery.status if delivery else None, bool(undelivered)
    )
    unexpected = {"code": "internal_error"} if state == "failed" else {}
    return {
        "state": state,
        "created": job.created,
        "updated": max(job.updated, delivery.updated if delivery else 0),
        "code": (failure or undelivered or unexpected).get("code"),
        "temporary": bool(delivered.get("temporary")),
    }


def _number(content: Any, name: str) -> int:
    """A number in a job's origin; 0 if there is none."""
    origin = content.get("origin") if isinstance(content, dict) else None
    value = origin.get(name) if isinstance(origin, dict) else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
        return value
    return 0


def _outcome(row: Any | None) -> dict[str, Any]:
    parsed = json.loads(row.output) if row is not None and row.output else None
    return parsed if isinstance(parsed, dict) else {}
