"""Startup and shutdown of the orchestrator and the workers."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal, NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig
from dbos._dbos import _get_dbos_instance

from eacps import tracing
from eacps.errors import EacpsError
from eacps.jobs import names
from eacps.jobs.beats import Heartbeat, ProcessIdentity, StrayWork
from eacps.jobs.codec import JsonSerializer
from eacps.jobs.database import (
    Records,
    configure_dbos_logging,
    is_running,
    open_engine,
    prepare,
    url_text,
)
from eacps.jobs.outages import make_dbos_outlast_them, outage
from eacps.jobs.queues import (
    Limit,
    count_claims,
    serve_queue,
    stop_dbos_polling,
    takes_work,
    wake_when_done,
)
from eacps.jobs.supervisor import DRAIN_SIGNAL, DRAINED_EXIT_CODE, report_ready
from eacps.jobs.wakeups import Wakeups
from eacps.settings import Settings

log = logging.getLogger(__name__)

LOCK_WAIT_SECONDS = 15.0
DRAIN_POLL_SECONDS = 0.5
Requests = SimpleQueue[Literal["stop", "drain"]]


class SlotTakenError(EacpsError):
    """Another live process has this name; both would do the same work."""

    code = "slot_taken"


def process_name(settings: Settings, slot: str) -> str:
    """A name that survives restarts, so that a restarted process resumes its work at once."""
    return f"{settings.host_name or socket.gethostname()}/{slot}"


class UnfinishedWork(BaseException):
    """Ends a run of a workflow without an outcome. StrayWork finds and requeues it."""


@dataclass(frozen=True)
class Finishing:
    """What a process that drains finishes before it exits: workflows whose names begin so, but at
    most for this long. Everything else is requeued, which loses nothing."""

    prefix: str
    seconds: float = float("inf")


@contextmanager
def process_lock(settings: Settings, name: str) -> Iterator[None]:
    """Lock a process name; waits a while for a predecessor to exit. Released even by kill -9."""
    folder = settings.data_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub('[^A-Za-z0-9._-]', '_', name)}.lock"
    with path.open("w") as file:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not _locked(file.fileno()):
            if time.monotonic() > deadline:
                raise SlotTakenError(
                    f"Another process runs as {name}.",
                    hint="Stop it, or give this one another --slot or EACPS_HOST_NAME.",
                )
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_records(settings: Settings, connections: int = 2) -> Records:
    """Open the jobs database; keep that many connections open, and a few more if needed."""
    return Records(open_engine(prepare(settings), pool_size=connections))


def register(
    name: str, function: Callable[[dict[str, Any]], dict[str, Any]], *, crashes: int | None
) -> None:
    """Register a workflow with DBOS, which gives it up after `crashes` crashes of its process."""

    def workflow(content: dict[str, Any]) -> dict[str, Any]:
        try:
            return function(content)
        except Exception as error:
            if not outage(error):
                raise
            # DBOS would store the exception as the outcome.
            log.warning("interrupted, to be requeued: %s", outage(error))
            raise UnfinishedWork from error

    attempts = None if crashes is None else crashes - 1
    DBOS.workflow(name=name, max_recovery_attempts=attempts)(workflow)


def start_dbos(
    settings: Settings,
    name: str,
    queues: Mapping[str, Limit],
    threads: int,
    wakeups: Wakeups,
) -> None:
    """Start DBOS on queues, each with its maximum number of concurrent workflows."""
    records = wakeups.records
    config = DBOSConfig(
        name=names.APPLICATION,
        system_database_url=url_text(prepare(settings)),
        system_database_engine=records.engine,
        # By default DBOS hashes the source, so that any change would strand unfinished work.
        application_version=names.VERSION,
        executor_id=name,
        serializer=JsonSerializer(),
        log_level="WARNING",
        max_executor_threads=threads,
    )
    make_dbos_outlast_them()
    stop_dbos_polling()
    DBOS(config=config)
    configure_dbos_logging()
    DBOS.launch()
    count_claims()
    for queue, limit in queues.items():
        serve_queue(queue, limit, wakeups)
    wake_when_done(wakeups)
    wakeups.start()


def run_until_stopped(
    me: ProcessIdentity,
    records: Records,
    settings: Settings,
    *,
    recover: Callable[[list[str]], object] | None = None,
    adopt: Callable[[], object] | None = None,
    before_leaving: Callable[[], None] = lambda: None,
    finishing: Finishing,
    wakeups: Wakeups,
) -> NoReturn:
    """Send heartbeats until SIGTERM or SIGINT, then requeue unfinished work and exit. When asked to
    drain, by a signal or in the list of workers, take no more work, finish what `finishing` says,
    and exit."""
    # Not an Event: a second signal would wait for the lock that the first one's handler holds.
    requests: Requests = SimpleQueue()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: requests.put("stop"))
        signal.signal(signal.SIGINT, lambda *_: requests.put("stop"))
        signal.signal(DRAIN_SIGNAL, lambda *_: requests.put("drain"))
    stray_work = StrayWork(
        running=_get_dbos_instance()._active_workflows_set.activeList,
        requeue=partial(requeue_unfinished, records, me.name),
        after_seconds=settings.stale_after_seconds,
    )
    heartbeat = Heartbeat(
        me,
        records,
        settings.stale_after_seconds,
        recover,
        adopt,
        stray_work,
        lambda: requests.put("drain"),
    )
    heartbeat.start()
    report_ready()
    log.info("ready")
    drains = requests.get() == "drain"
    if drains:
        _finish(records, me.name, finishing, wakeups, requests)
    before_leaving()
    try:
        heartbeat.stop()
        requeue_unfinished(records, me.name)
    except sa.exc.SQLAlchemyError as error:
        log.warning("unfinished work could not be requeued: %s", outage(error) or error)
    tracing.stop()
    logging.shutdown()
    # Do not wait for threads, whose workflows have been requeued.
    os._exit(DRAINED_EXIT_CODE if drains else 0)


def _finish(
    records: Records, name: str, finishing: Finishing, wakeups: Wakeups, requests: Requests
) -> None:
    log.info("draining: no more work is taken")
    wakeups.end_queues()
    deadline = time.monotonic() + finishing.seconds
    while time.monotonic() < deadline and not _is_stopped(requests):
        try:
            if not takes_work() and not _running(records, name, finishing.prefix):
                return
        except sa.exc.SQLAlchemyError as error:
            log.warning("draining waits for the jobs database: %s", outage(error) or error)


def _is_stopped(requests: Requests) -> bool:
    """Wait a little for a request to stop at once; others change nothing any more."""
    with suppress(Empty):
        while requests.get(timeout=DRAIN_POLL_SECONDS) != "stop":
            continue
        return True
    return False


def _running(records: Records, name: str, prefix: str) -> bool:
    return any(workflow.startswith(prefix) for workflow in records.pending_of(name))


def requeue_unfinished(records: Records, name: str, only: Collection[str] | None = None) -> int:
    """Requeue this process's unfinished work, without counting it as a crash."""
    status = records.tables.status
    unfinished = sa.and_(status.c.executor_id == name, is_running(status))
    if only is not None:
        unfinished = sa.and_(unfinished, status.c.workflow_uuid.in_(only))
    with records.engine.begin() as connection:
        changed = connection.execute(
            sa.update(status)
            .where(unfinished)
            .values(
                status="ENQUEUED",
                owner_xid=None,
                started_at_epoch_ms=None,
                recovery_attempts=status.c.recovery_attempts - 1,
            )
        )
    return changed.rowcount
