"""What orchestrator and workers share: one live process per name, DBOS started, a clean end."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig

from eacps.errors import EacpsError
from eacps.jobs import names
from eacps.jobs.beats import Heartbeat, ProcessIdentity
from eacps.jobs.codec import JsonSerializer
from eacps.jobs.database import Records, log_as_we_do, open_engine, prepare, url_text
from eacps.settings import Settings

log = logging.getLogger(__name__)

LOCK_WAIT_SECONDS = 15.0


class SlotTakenError(EacpsError):
    """Another live process has this name; two with one name would do the same work twice."""

    code = "slot_taken"


def process_name(settings: Settings, slot: str) -> str:
    """A name that survives restarts, so that a successor takes up its own work at once."""
    return f"{settings.host_name or socket.gethostname()}/{slot}"


@contextmanager
def sole_owner(settings: Settings, name: str) -> Iterator[None]:
    """Hold a name; waits shortly for a predecessor to end. The system frees it on kill -9."""
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


def open_records(settings: Settings) -> Records:
    """The jobs database, ready for use."""
    return Records(open_engine(prepare(settings)))


def register(
    name: str, function: Callable[[dict[str, Any]], dict[str, Any]], *, crashes: int | None
) -> None:
    """Make a workflow known to DBOS; after so many crashes of its process it is given up."""

    def workflow(content: dict[str, Any]) -> dict[str, Any]:
        return function(content)

    attempts = None if crashes is None else crashes - 1
    DBOS.workflow(name=name, max_recovery_attempts=attempts)(workflow)


def start_dbos(
    settings: Settings, name: str, queues: Mapping[str, int | None], threads: int
) -> None:
    """Start DBOS on some queues, each with how many of its workflows run here at once."""
    config = DBOSConfig(
        name=names.APPLICATION,
        system_database_url=url_text(prepare(settings)),
        # The default hashes the source, so that any edit would strand unfinished work.
        application_version=names.VERSION,
        executor_id=name,
        serializer=JsonSerializer(),
        log_level="WARNING",
        max_executor_threads=threads,
    )
    DBOS(config=config)
    log_as_we_do()
    DBOS.listen_queues(list(queues))
    DBOS.launch()
    for queue, concurrency in queues.items():
        # Never global_concurrency: it counts the rows of dead processes.
        DBOS.register_queue(
            queue,
            worker_concurrency=concurrency,
            polling_interval_sec=(
                names.DEVICE_POLL_SECONDS
                if queue.startswith(names.DEVICE_QUEUE)
                else names.POLL_SECONDS
            ),
            on_conflict="always_update",
        )


def work_until_stopped(
    me: ProcessIdentity,
    records: Records,
    settings: Settings,
    *,
    recover: Callable[[list[str]], object] | None = None,
    adopt: Callable[[], object] | None = None,
    before_leaving: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Beat until SIGTERM or SIGINT, hand unfinished work back, and end the process."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ask)
        signal.signal(signal.SIGINT, ask)
    heartbeat = Heartbeat(me, records, settings.stale_after_seconds, recover, adopt)
    heartbeat.start()
    log.info("ready")
    stop.wait()
    before_leaving()
    try:
        heartbeat.stop()
        hand_back(records, me.name)
    except sa.exc.SQLAlchemyError as error:
        log.warning("work could not be handed back: %s", error)
    logging.shutdown()
    # Threads still run workflows that are no longer ours; ending beats waiting for them.
    os._exit(0)


def hand_back(records: Records, name: str) -> int:
    """Queue this process's unfinished work again; unlike a crash it counts against nobody."""
    status = records.tables.status
    with records.engine.begin() as connection:
        changed = connection.execute(
            sa.update(status)
            .where(status.c.executor_id == name, status.c.status == "PENDING")
            .values(
                status="ENQUEUED",
                owner_xid=None,
                started_at_epoch_ms=None,
                recovery_attempts=status.c.recovery_attempts - 1,
            )
        )
    return changed.rowcount
