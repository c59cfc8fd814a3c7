"""Submits and inspects jobs, for the web server and the command line; runs no workflows."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eacps.domain import Failure, SearchResult, from_json, to_json
from eacps.errors import EacpsError
from eacps.jobs import names
from eacps.jobs.contract import (
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
from eacps.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa
    from dbos import DBOSClient, EnqueueOptions

    from eacps.jobs.database import Records, Row
    from eacps.jobs.job_index import JobIndex

log = logging.getLogger(__name__)

CANCELLED = Failure("cancelled", "The job was cancelled. Retry it to continue.")
UNEXPECTED = Failure("internal_error", "The job failed unexpectedly; see the orchestrator's log.")


PORTION = 100
"""Jobs that are stored in one transaction."""


class NoSuchJobError(EacpsError):
    """No job with this id was submitted, or retention removed it."""

    code = "no_such_job"


class JobClient:
    """The job queue. It connects on first use, so it may be created before a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._process = 0
        self._records: Records | None = None
        self._dbos: DBOSClient | None = None

    def submit(self, job: Job) -> bool:
        """Submit a job; returns False if its id exists already."""
        return self.submit_many([job]) == 1

    def submit_many(self, jobs: Sequence[Job]) -> int:
        """Submit jobs in portions; returns how many are new."""
        wanted = list({job.id: job for job in jobs}.values())
        number = 0
        for start in range(0, len(wanted), PORTION):
            began = time.monotonic()
            number += self._submit_portion(wanted[start : start + PORTION])
            if start + PORTION < len(wanted):
                # Searches, which write, too, would otherwise wait until the last job is stored.
                time.sleep(0.5 * (time.monotonic() - began))
        return number

    def _submit_portion(self, jobs: Sequence[Job]) -> int:
        from eacps.jobs.database import exclusive_transaction

        records, _ = self._open()
        wanted = {names.job_workflow(job.id): self._slim(job) for job in jobs}
        with exclusive_transaction(records.engine) as connection:
            known = records.status(*wanted, connection=connection)
            new = [job for name, job in wanted.items() if name not in known]
            self._enqueue(connection, new)
        return len(new)

    def _enqueue(self, connection: sa.Connection, new: Sequence[Job]) -> None:
        from eacps.jobs.shares import Shares
        from eacps.jobs.subjects import note_subjects

        records, dbos = self._open()
        shares = Shares(records, self._settings)
        for job, queue in shares.placed(connection, new):
            workflow = names.job_workflow(job.id)
            options = names.options(names.EDIT_TASK, queue, workflow, job.priority)
            dbos.enqueue_in_transaction(connection, options, to_json(job))
            if queue == names.WAITING_QUEUE:
                shares.keep_waiting(connection, job)
        note_subjects(records, new, connection)

    def ask_on_panel(
        self, request: PanelRequest, limits: PanelLimits, least: int, make: MakeJob
    ) -> tuple[int, bool]:
        """Submit the job of a request; returns its number within its task, and whether it is new.
        Raises PanelLimitError."""
        from eacps.jobs.database import exclusive_transaction
        from eacps.jobs.panel_actions import PanelActions

        records, _ = self._open()
        actions = PanelActions(records)
        numbers: list[int] = []

        def numbered(number: int, others: frozenset[int]) -> tuple[Job, Sequence[int]]:
            numbers.append(number)
            return make(number, others)

        # In one transaction: a request is counted if, and only if, it has a job.
        with exclusive_transaction(records.engine) as connection:
            known = actions.number(request.job, connection)
            if known is not None:
                return known, False
            job = self._slim(actions.add(request, limits, least, numbered, connection))
            self._enqueue(connection, [job])
        return numbers[0], True

    def panel_today(self, place: str) -> PanelToday:
        """What a task's panel asked for within a day."""
        from eacps.jobs.panel_actions import PanelActions

        records, _ = self._open()
        with records.engine.connect() as connection:
            return PanelActions(records).today(place, connection)

    def recent_results(self, limit: int = 8) -> list[SearchResult]:
        """The results of the newest searches that have ended, newest first."""
        records, _ = self._open()
        rows = records.newest(names.SEARCH, limit)
        return [from_json(SearchResult, row.output["result"]) for row in rows if row.good]

    def status(self, job: str) -> JobStatus | None:
        """The status of a job, or None if it is unknown."""
        return self.statuses([job]).get(job)

    def statuses(self, jobs: Iterable[str]) -> dict[str, JobStatus]:
        """The statuses of jobs; unknown ones are left out."""
        records, _ = self._open()
        return self._described(records, list(records.rows(map(names.job_workflow, jobs)).values()))

    def list(self, limit: int = 50, state: JobState | None = None) -> list[JobStatus]:
        """Jobs, newest first, optionally only those in one state."""
        records, _ = self._open()
        if state is None:
            rows = records.newest(names.EDIT_TASK, limit)
        else:
            wanted = list(map(names.job_workflow, self._index().newest(state, limit)))
            found = records.rows(wanted)
            rows = [found[name] for name in wanted if name in found]
        described = self._described(records, rows).values()
        return [status for status in described if state in (None, status.state)]

    def page(self, wanted: JobFilter, limit: int, after: PageEnd | None = None) -> JobPage:
        """At most `limit` jobs, newest first, from the beginning or after another page."""
        records, _ = self._open()
        # One more, to know whether there is a next page.
        found = self._index().page(wanted, limit + 1, after)
        shown = [names.job_workflow(each.id) for each in found[:limit]]
        rows = records.rows(shown)
        described = self._described(records, [rows[name] for name in shown if name in rows])
        return JobPage(list(described.values()), found[limit - 1] if len(found) > limit else None)

    def number(self, wanted: JobFilter, most: int) -> int:
        """The number of jobs, counted up to `most`."""
        return self._index().number(wanted, most)

    def projects(self) -> Sequence[int]:
        """The projects of the jobs that are kept."""
        return self._index().projects()

    def failure_codes(self) -> Sequence[str]:
        """The codes with which jobs have failed."""
        return self._index().codes()

    def places(self, jobs: Iterable[str]) -> dict[str, int]:
        """The places of queued jobs in the order in which they begin, from 1."""
        return self._index().places(list(jobs))

    def speed(self) -> float:
        """Jobs that ended per second, for as long as there has been a queue, and at most within the
        last hour; 0 if there is no queue."""
        return self._index().speed()

    def ended_by_time(self, since: float, seconds: int) -> Mapping[tuple[JobState, int], int]:
        """How many jobs were done or failed since a moment, by state and by slots that are so many
        seconds long."""
        return self._index().ended_by_time(since, seconds)

    def result(self, job: str, timeout: float = 0.0) -> SearchResult | Failure | None:
        """Wait for the end of a job's search and return its outcome, or None after the timeout."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status(job)
            if status is None:
                return None
            if status.failure is not None:
                return status.failure
            if status.state in ("delivering", "done") and status.key:
                return self._search_result(status.key)
            if time.monotonic() >= deadline:
                return None
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))

    def cancel(self, job: str) -> bool:
        """Cancel a job; returns False if it has ended. A search that other jobs need continues."""
        records, dbos = self._open()
        status = self._known(job)
        if status.state not in ("queued", "running", "delivering"):
            return False
        dbos.cancel_workflows([names.job_workflow(job), names.delivery_workflow(job)])
        key = self._known(job).key
        if key and not records.waiting_for(key):
            search = names.search_workflow(key)
            if search in records.status(search):
                dbos.cancel_workflow(search)
            # Again, because the search may have enqueued more before it noticed.
            while batches := records.unfinished_batches(key):
                dbos.cancel_workflows(batches)
        return True

    def retry(self, job: str) -> bool:
        """Run a failed or cancelled job again, keeping finished batches; otherwise return False."""
        self._known(job)
        return self._retry([job], ("failed", "cancelled")) == 1

    def failed(self, since: float = 0.0, code: str = "") -> Mapping[str, str]:
        """The codes of failed jobs by id: of those that failed since a moment, with that code."""
        return self._index().failed(since, code)

    def retry_all(self, jobs: Iterable[str]) -> int:
        """Run those of these jobs again that have failed; returns how many."""
        # In portions, so that the queue is never locked for long.
        return sum(self._retry(chunk, ("failed",)) for chunk in _chunks(jobs))

    def _retry(self, jobs: Sequence[str], states: Sequence[JobState]) -> int:
        from eacps.jobs.database import exclusive_transaction

        records, dbos = self._open()
        with exclusive_transaction(records.engine) as connection:
            # Asked inside the transaction: somebody else may have been first.
            statuses = self.statuses(jobs).values()
            ended = [each.id for each in statuses if each.state in states]
            workflows = list(map(names.job_workflow, ended))
            rows = records.rows(workflows, connection, output=False)
            records.delete([*workflows, *map(names.delivery_workflow, ended)], connection)
            for row in rows.values():
                again = replace(from_json(Job, row.input), losses=0)
                dbos.enqueue_in_transaction(connection, _options(again), to_json(again))
        return len(rows)

    def prune(self, days: float) -> int:
        """Delete jobs that ended this many days ago; returns their number."""
        from eacps.jobs.retention import prune

        return prune(self._open()[0], days)

    def needed_files(self, older_than_seconds: float = 0.0) -> set[str]:
        """The names of stored files of this age without which kept jobs could not run again."""
        from eacps.jobs.retention import needed_files

        return needed_files(self._open()[0], older_than_seconds)

    def counts(self) -> dict[JobState, int]:
        """The number of jobs in each state."""
        return self._index().counts()

    def ended_since(self, moment: float) -> int:
        """The number of jobs that ended since a moment, in seconds since the epoch."""
        return self._index().ended_since(moment)

    def workers(self) -> Sequence[WorkerStatus]:
        """The live workers and orchestrators."""
        import sqlalchemy as sa

        records, _ = self._open()
        table = records.tables.workers
        with records.engine.connect() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.name)).all()
        moment = time.time()
        found = [
            WorkerStatus(
                row.name,
                row.role,
                row.device,
                row.pid,
                moment - row.seen,
                row.started,
                row.equipment or "",
                row.note or "",
                row.version or names.FIRST_VERSION,
                row.release or names.FIRST_RELEASE,
                row.asked == names.DRAIN,
            )
            for row in rows
        ]
        return [worker for worker in found if worker.age <= self._settings.stale_after_seconds]

    def waiting(self) -> Sequence[WaitingBatches]:
        """Batches that no live worker can run: because none has loaded the models they need, or
        none of those is of their version."""
        from eacps.jobs.versions import waiting_for_versions

        records, _ = self._open()
        live = self.workers()
        workers = [worker for worker in live if worker.role == "worker"]
        there = {worker.equipment for worker in workers if worker.version == names.VERSION}
        elsewhere = {worker.equipment for worker in workers} - there
        counts = {
            equipment: count
            for equipment, count in records.waiting_batches().items()
            if equipment not in there
        }
        words = records.equipment_words(counts)
        waiting = [
            WaitingBatches(
                equipment,
                words.get(equipment, ""),
                count,
                "version" if equipment in elsewhere else "settings",
            )
            for equipment, count in sorted(counts.items())
        ]
        return [*waiting, *waiting_for_versions(records, live)]

    def over_quota(self) -> Sequence[OverQuota]:
        """The projects whose jobs wait until tomorrow."""
        from eacps.jobs.shares import over_quota

        return over_quota(self._open()[0], self._settings)

    def delays(self) -> Delays:
        """How long jobs have been waiting, and how many wait to be tried again."""
        from eacps.jobs.delays import delays

        return delays(self._open()[0])

    def extra_params(self, project: str) -> str:
        """The extra parameters of a project's ML backend, as JSON; an empty string without any."""
        from eacps.jobs.projects import extra_params

        return extra_params(self._open()[0], project)

    def remember_extra_params(self, project: str, content: str) -> bool:
        """Remember a project's extra parameters; returns whether they are others than before."""
        from eacps.jobs.projects import remember_extra_params

        return remember_extra_params(self._open()[0], project, content)

    def check(self) -> None:
        """Raise an exception if no job can be submitted now."""
        from eacps.jobs.database import require_writable

        require_writable(self._open()[0].engine)

    def free_connections(self) -> int | None:
        """How many more connections the database allows; None if it has no limit."""
        return self._open()[0].free_connections()

    def of_earlier_versions(self) -> int:
        """The number of unfinished jobs of earlier versions."""
        from eacps.jobs.adoption import unfinished_jobs

        return unfinished_jobs(self._open()[0])

    def waiting_jobs(self) -> Sequence[str]:
        """The jobs whose searches wait for a worker that is not running."""
        records, _ = self._open()
        keys = records.keys_waiting_for({each.equipment for each in self.waiting()})
        workflows = [name for key in sorted(keys) for name in records.waiting_for(key)]
        return [names.job_of(workflow) for workflow in dict.fromkeys(workflows)]

    def restart(self, job: str) -> bool:
        """Run a job from its beginning with the current settings; False if it is unknown."""
        from eacps.jobs.database import exclusive_transaction

        records, dbos = self._open()
        name = names.job_workflow(job)
        self.cancel(job)
        with exclusive_transaction(records.engine) as connection:
            row = records.rows([name], connection, output=False).get(name)
            if row is None:
                return False
            again = replace(from_json(Job, row.input), losses=0)
            records.delete([name, names.delivery_workflow(job)], connection)
            dbos.enqueue_in_transaction(connection, _options(again), to_json(again))
        return True

    def about(self, subject: str, limit: int = 50) -> Sequence[JobStatus]:
        """The jobs about a subject, newest first."""
        from eacps.jobs.subjects import jobs_about

        wanted = jobs_about(self._open()[0], subject, limit)
        found = self.statuses(wanted)
        return [found[job] for job in wanted if job in found]

    def ahead(self, status: JobStatus) -> int | None:
        """How many others wait in front of a job, or in front of its search; None if it does not
        wait."""
        from eacps.jobs.subjects import ahead

        return ahead(self._open()[0], status)

    def search(self, key: str) -> Search | None:
        """What is stored of the search with this key."""
        from eacps.jobs.subjects import search_of

        return search_of(self._open()[0], key)

    def revoke(self, scope: str) -> float:
        """Note that a scope is revoked now; returns the moment."""
        from eacps.jobs.revocations import revoke

        return revoke(self._open()[0], scope)

    def revoked(self, scopes: Iterable[str]) -> Mapping[str, float]:
        """When each of these scopes was revoked last; others are left out."""
        from eacps.jobs.revocations import revoked

        return revoked(self._open()[0], scopes)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            if self._dbos is not None:
                self._dbos.destroy()
            if self._records is not None:
                self._records.engine.dispose()
            self._dbos = self._records = None

    def _open(self) -> tuple[Records, DBOSClient]:
        with self._lock:
            if self._records is None or self._dbos is None or self._process != os.getpid():
                from dbos import DBOSClient

                from eacps.jobs.codec import JsonSerializer
                from eacps.jobs.database import Records, open_engine, prepare

                if self._records is not None:
                    # After a fork the connections belong to the parent: do not close them.
                    self._records.engine.dispose(close=False)
                self._records = Records(open_engine(prepare(self._settings), pool_size=8))
                self._dbos = DBOSClient(
                    system_database_engine=self._records.engine,
                    serializer=JsonSerializer(),
                    application_name=names.APPLICATION,
                    lazy=True,
                )
                self._process = os.getpid()
            return self._records, self._dbos

    def _index(self) -> JobIndex:
        from eacps.jobs.job_index import JobIndex

        return JobIndex(self._open()[0])

    def _slim(self, job: Job) -> Job:
        """The job with its large values in the artifact store instead of in its row."""
        from eacps.artifacts import StoreAwayError, open_store
        from eacps.jobs.large_values import without_large_values

        def put(content: bytes, suffix: str) -> str:
            return open_store(self._settings).put(content, suffix)

        try:
            return without_large_values(job, put)
        except StoreAwayError as error:
            # A large row is better than a lost job.
            log.warning("%s The job is stored with all its content.", error)
            return job

    def _known(self, job: str) -> JobStatus:
        status = self.status(job)
        if status is None:
            raise NoSuchJobError(f"There is no job {job!r}.", hint="`eacps jobs list` shows them.")
        return status

    def _search_result(self, key: str) -> SearchResult | Failure | None:
        name = names.search_workflow(key)
        row = self._open()[0].rows([name]).get(name)
        if row is None or not row.good:
            return None
        return from_json(SearchResult, row.output["result"])

    @staticmethod
    def _described(records: Records, rows: Sequence[Row]) -> dict[str, JobStatus]:
        jobs = [names.job_of(row.id) for row in rows]
        deliveries = records.rows(map(names.delivery_workflow, jobs))
        events = records.events([row.id for row in rows] + list(deliveries))
        keys = {own[names.KEY_EVENT] for own in events.values() if names.KEY_EVENT in own}
        searches = [names.search_workflow(key) for key in keys]
        progress, began = records.events(searches), records.began(searches)
        return {
            job: _describe(
                job, row, deliveries.get(names.delivery_workflow(job)), events, progress, began
            )
            for job, row in zip(jobs, rows, strict=True)
        }


def _chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    from eacps.jobs.database import chunks

    return chunks(ids)


def _options(job: Job) -> EnqueueOptions:
    return names.enqueue_options(names.EDIT_TASK, names.job_workflow(job.id), job.priority)


def _describe(
    job: str,
    row: Row,
    delivery: Row | None,
    events: dict[str, dict[str, Any]],
    progress: dict[str, dict[str, Any]],
    began: Mapping[str, float],
) -> JobStatus:
    from eacps.jobs.job_index import state_of

    own = events.get(row.id, {})
    key = own.get(names.KEY_EVENT)
    search = progress.get(names.search_workflow(key), {}) if key else {}
    failed = (row.output or {}).get("failure")
    undelivered = (delivery.output or {}).get("failure") if delivery else None
    state = state_of(row.status, bool(failed), delivery.status if delivery else None,
                     bool(undelivered))  # fmt: skip
    told = events.get(delivery.id, {}) if delivery else own
    unfinished = delivery is None or not delivery.ended
    return JobStatus(
        id=job,
        state=state,
        failure=_failure(state, failed or undelivered),
        origin=row.input.get("origin", {}),
        created=row.created,
        updated=max(row.updated, delivery.updated if delivery else 0.0),
        key=key,
        note=told.get(names.NOTE_EVENT, "") if unfinished else "",
        began=began.get(names.search_workflow(key)) if key else None,
        **search.get(names.PROGRESS_EVENT, {}),
    )


def _failure(state: JobState, stored: Any) -> Failure | None:
    if state == "cancelled":
        return CANCELLED
    if state != "failed":
        return None
    return from_json(Failure, stored) if stored else UNEXPECTED
