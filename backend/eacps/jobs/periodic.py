"""What the orchestrator looks after from time to time: deliveries that failed for a passing reason,
and tasks that nobody announced. Both only enqueue jobs, and never hold up a search."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from eacps.domain import from_json
from eacps.errors import EacpsError, RetryLaterError
from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job, TaskHooks
from eacps.jobs.database import Records, Row, exclusive_transaction, now
from eacps.jobs.enqueueing import open_client
from eacps.jobs.job_index import JobIndex
from eacps.jobs.outages import outage, outages
from eacps.jobs.shares import mark_told, release, untold
from eacps.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS = 15.0
AGAIN_SECONDS = 300.0
"""How often failed deliveries are looked for, and the first pause before they are tried again."""
TOLD_AT_ONCE = 50
"""So many tasks are told in one turn that they wait, so that nothing else waits for that."""
LONGEST_AGAIN_SECONDS = 3600.0
AFTER_FAILURE_SECONDS = 60.0
"""The first pause after work could not be looked for; it doubles, up to the usual one."""


class PeriodicWork(threading.Thread):
    """Does periodic work until the process ends."""

    def __init__(self, settings: Settings, hooks: TaskHooks, records: Records) -> None:
        super().__init__(name="periodic", daemon=True)
        self._every = settings.catch_up_minutes * 60
        self._settings = settings
        self._hooks = hooks
        self._records = records
        self._jobs = JobClient(settings)
        self._probe = OutageProbe(records)
        self._pause = AFTER_FAILURE_SECONDS
        self._catch_up_at = self._again_at = 0.0

    def run(self) -> None:
        """Do what is due, again and again."""
        while True:
            self.run_due(time.monotonic())
            time.sleep(CHECK_SECONDS)

    def run_due(self, moment: float) -> None:
        """Do what is due."""
        self._refresh_index()
        if self._probe.was_cut():
            # What was announced meanwhile could not be stored.
            self._catch_up_at = moment
        self._begin_waiting()
        if moment >= self._again_at:
            self._again_at = moment + AGAIN_SECONDS
            self._deliver_again()
        if self._every and moment >= self._catch_up_at:
            self._catch_up_at = moment + self._catch_up()

    def _refresh_index(self) -> None:
        """Keep the index nearly up to date, so that readers find little to do."""
        try:
            JobIndex(self._records).refresh()
        except sa.exc.SQLAlchemyError as error:
            log.warning("the index of jobs could not be refreshed: %s", outage(error) or error)

    def _begin_waiting(self) -> None:
        """Begin jobs for which there is quota again, and let the tasks of others say so."""
        try:
            number = release(self._records, self._settings)
            if number:
                log.info("%d jobs that waited for their project's quota may begin", number)
            tell_waiting(self._hooks, self._records, self._jobs)
        except Exception as error:
            expected = isinstance(error, RetryLaterError) or outage(error)
            log.warning("jobs over quota: %s", error, exc_info=None if expected else error)

    def _deliver_again(self) -> None:
        try:
            number = deliver_again(self._records)
        except Exception:
            log.exception("failed deliveries could not be looked for")
        else:
            if number:
                log.info("%d failed deliveries are tried again", number)

    def _catch_up(self) -> float:
        """Enqueue what nobody announced; returns in how many seconds to look again."""
        try:
            number = catch_up(self._hooks, self._records, self._jobs)
        except Exception as error:
            expected = isinstance(error, RetryLaterError) or outage(error)
            log.warning("tasks without a job: %s", error, exc_info=None if expected else error)
            pause, self._pause = self._pause, 2 * self._pause
            return min(pause, self._every)
        self._pause = AFTER_FAILURE_SECONDS
        if number:
            log.info("%d tasks that were never announced are queued", number)
        return self._every


def catch_up(hooks: TaskHooks, records: Records, jobs: JobClient) -> int:
    """Enqueue the work that the hooks find and that has no job; returns how much is new."""

    def known(since: float) -> Iterator[Mapping[str, Any]]:
        return origins_since(records, since)

    # A portion is stored before the hooks are asked for the next one.
    return sum(jobs.submit_many(portion) for portion in hooks.overlooked(known))


def tell_waiting(hooks: TaskHooks, records: Records, jobs: JobClient) -> int:
    """Let the tasks of jobs over quota say that they wait; returns how many."""
    told = 0
    for job in untold(records, TOLD_AT_ONCE):
        status = jobs.status(job)
        if status is not None and status.state == "queued" and status.note:
            try:
                hooks.say_waiting(status.origin, status.note)
            except RetryLaterError as error:
                if not error.only_here:
                    raise
                log.warning("job %s cannot say that it waits: %s", job, error)
            except EacpsError as error:
                log.warning("job %s cannot say that it waits: %s", job, error)
            told += 1
        mark_told(records, job)
    return told


def origins_since(records: Records, since: float) -> Iterator[Mapping[str, Any]]:
    """The origins of all jobs that were submitted since."""
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid).where(
        status.c.name == names.EDIT_TASK, status.c.created_at >= int(since * 1000)
    )
    with records.engine.connect() as connection:
        every = list(connection.execute(query).scalars())
    for start in range(0, len(every), 200):
        rows = records.rows(every[start : start + 200], output=False)
        yield from (row.input.get("origin", {}) for row in rows.values())


def deliver_again(records: Records, moment: float | None = None) -> int:
    """Enqueue deliveries again that failed for a reason that may have passed: after 5 minutes, 10,
    20 … an hour, for as long as jobs are kept. Returns their number."""
    due = [row.id for row in _failed(records) if _is_due(row, moment or now())]
    if not due:
        return 0
    client = open_client(records)
    with exclusive_transaction(records.engine) as connection:
        # Another orchestrator, or a person, may have been first.
        rows = [row for row in records.rows(due, connection).values() if _may_pass(row)]
        records.delete([row.id for row in rows], connection)
        for row in rows:
            job = from_json(Job, row.input["job"])
            options = names.enqueue_options(names.DELIVERY, row.id, job.priority)
            content = {**row.input, "tries": row.input.get("tries", 0) + 1}
            client.enqueue_in_transaction(connection, options, content)
    return len(rows)


def _failed(records: Records) -> list[Row]:
    jobs = JobIndex(records).undelivered()
    rows = records.rows(map(names.delivery_workflow, jobs))
    return [row for row in rows.values() if _may_pass(row)]


def _may_pass(row: Row) -> bool:
    return row.status == "SUCCESS" and (row.output or {}).get("temporary") is True


def _is_due(row: Row, moment: float) -> bool:
    # Not more than 2 ** 10: the pause has reached its maximum long before.
    tries = min(10, int(row.input.get("tries", 0)))
    pause = min(LONGEST_AGAIN_SECONDS, AGAIN_SECONDS * 2**tries)
    return bool(moment >= (row.completed or row.updated) + pause)


class OutageProbe:
    """Notices when the jobs database was away, however shortly: a connection that is held all the
    time does not survive it."""

    def __init__(self, records: Records) -> None:
        self._engine = records.engine
        self._connection: sa.Connection | None = None
        self._away = False
        self._asked = time.monotonic()

    def was_cut(self) -> bool:
        """Whether the database was away since the last call, and is there again."""
        if outages.seconds_since() < time.monotonic() - self._asked:
            self._away = True
        self._asked = time.monotonic()
        try:
            self._connection = self._connection or self._engine.connect()
            self._connection.execute(sa.text("SELECT 1"))
            self._connection.rollback()
        except sa.exc.SQLAlchemyError:
            self._away = True
            self._drop()
            return False
        was_away, self._away = self._away, False
        return was_away

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
