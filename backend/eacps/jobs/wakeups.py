"""Wakes the threads that wait for work in a queue or for the end of a workflow.

PostgreSQL notifies us (triggers.py). SQLite tells by a counter, which costs almost nothing to
read, that another connection wrote; what changed is then asked. In both cases everything is
checked again every few seconds, because a notification may be lost with its connection.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eacps.jobs import names, triggers
from eacps.jobs.database import Records
from eacps.jobs.outages import outage

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""How often everything is checked while notifications arrive."""
WITHOUT_NOTIFICATIONS_SECONDS = 0.2
"""How often everything is checked if PostgreSQL does not notify us."""
RECONNECT_SECONDS = 60.0
SELF_TEST_SECONDS = 5.0
BUSY_SECONDS = 0.01
IDLE_SECONDS = 0.05
"""How often SQLite's counter is read shortly after a change, and otherwise."""
STAYS_BUSY_SECONDS = 1.0
MOST_PARAMETERS = 500


class QueueSignal:
    """Takes the place of the event by which DBOS stops the thread of a queue: where that thread
    would sleep until its next poll, it waits until the queue has work."""

    def __init__(self, before_claim: Callable[[], None] = lambda: None) -> None:
        self._event = threading.Event()
        self._before_claim = before_claim
        self._ended = False

    def end(self) -> None:
        """End the thread, after what it is claiming now."""
        self._ended = True
        self._event.set()

    def set(self) -> None:
        """Let the thread look for work."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the thread should end."""
        return self._ended

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for work; the polling interval that DBOS passes does not matter."""
        del timeout
        self._event.wait()
        self._event.clear()
        if not self._ended:
            self._before_claim()
        return self._ended


class _Waiter:
    """A thread that waits for the end of a workflow, or of its own one."""

    def __init__(self, identity: str, own: str) -> None:
        self.ids = (identity, own)
        self.woken = threading.Event()

    def is_done(self, statuses: Mapping[str, str]) -> bool:
        """Whether there is nothing left to wait for."""
        awaited, own = map(statuses.get, self.ids)
        return awaited is None or awaited in names.ENDED or own != "PENDING"


class Wakeups(threading.Thread):
    """Watches the jobs database and wakes whoever waits. It never ends, whatever happens to the
    database."""

    def __init__(self, records: Records, *, waits: bool = True) -> None:
        """`waits`: whether this process waits for the ends of workflows of other processes."""
        super().__init__(name="wakeups", daemon=True)
        self._waits = waits
        self.records = records
        self._signals: dict[str, QueueSignal] = {}
        self._waiters: dict[str, set[_Waiter]] = defaultdict(set)
        self._lock = threading.Lock()
        self._complained = False
        self._cursor: Any = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End within seconds."""
        self._stopped.set()

    def add_queue(self, queue: str, signal: QueueSignal) -> None:
        """Set the signal when the queue may have work."""
        self._signals[queue] = signal
        signal.set()

    def end_queues(self) -> None:
        """Let this process claim no more work."""
        for signal in self._signals.values():
            signal.end()

    def wake_queue(self, queue: str) -> None:
        """The queue may have work, or this process room for it."""
        signal = self._signals.get(queue)
        if signal is not None:
            signal.set()

    def wait_for_end(self, identity: str, own: str) -> str:
        """Wait until a workflow ends and return its status; GONE if it was deleted, or if the
        waiting workflow itself was cancelled."""
        with self._waiting(identity, own) as waiter:
            while True:
                statuses = self.records.status(identity, own)
                if waiter.is_done(statuses):
                    status = statuses.get(identity)
                    return status if status in names.ENDED else "GONE"
                waiter.woken.wait()
                waiter.woken.clear()

    def waiting_for(self, identity: str) -> bool:
        """Whether somebody waits for the end of this workflow."""
        return identity in self._waiters

    @contextmanager
    def _waiting(self, identity: str, own: str) -> Iterator[_Waiter]:
        waiter = _Waiter(identity, own)
        with self._lock:
            for name in waiter.ids:
                self._waiters[name].add(waiter)
        try:
            yield waiter
        finally:
            with self._lock:
                for name in waiter.ids:
                    self._waiters[name].discard(waiter)
                    if not self._waiters[name]:
                        del self._waiters[name]

    def run(self) -> None:
        """Watch, also after the database was unavailable."""
        watch = (
            self._watch_sqlite
            if self.records.engine.dialect.name == "sqlite"
            else self._watch_postgres
        )
        while not self._stopped.is_set():
            try:
                watch()
            except Exception as error:
                # The listening connection is the driver's own, and so are its errors.
                driver = self.records.engine.dialect.loaded_dbapi
                expected = bool(outage(error)) or isinstance(error, driver.OperationalError)
                if not expected:
                    log.exception("the jobs database cannot be watched")
                time.sleep(0.5 if expected else 5.0)

    # --- PostgreSQL

    def _watch_postgres(self) -> None:
        pooled = self.records.engine.raw_connection()
        pooled.detach()
        try:
            connection: Any = pooled.dbapi_connection
            connection.autocommit = True
            connection.execute(f"LISTEN {triggers.WORK_CHANNEL}")
            if self._waits:
                connection.execute(f"LISTEN {triggers.ENDED_CHANNEL}")
            if self._is_notified(connection):
                self._complained = False
                self._read_notifications(connection)
            else:
                self._poll()
        finally:
            pooled.close()

    def _is_notified(self, connection: Any) -> bool:
        """Whether notifications arrive: some connection poolers swallow them."""
        connection.execute(f"NOTIFY {triggers.WORK_CHANNEL}, 'test'")
        found = any(
            notice.payload == "test"
            for notice in connection.notifies(timeout=SELF_TEST_SECONDS, stop_after=1)
        )
        if not found and not self._complained:
            self._complained = True
            log.warning(
                "PostgreSQL's notifications do not arrive, so the queue is polled, which is slower "
                "and loads the database. Let EACPS_DATABASE_URL name the server itself, or a "
                "pooler in session mode."
            )
        return found

    def _read_notifications(self, connection: Any) -> None:
        while not self._stopped.is_set():
            # What happened before we listened, and whatever got lost.
            self.check()
            notices = connection.notifies(timeout=CHECK_SECONDS)
            for notice in notices:
                self._notified(notice.channel, notice.payload)
                if self._stopped.is_set():
                    notices.close()
            # Fails if the connection broke silently.
            connection.execute("SELECT 1")

    def _notified(self, channel: str, payload: str) -> None:
        if channel == triggers.WORK_CHANNEL:
            self.wake_queue(payload)
        else:
            self.ended(payload)

    def _poll(self) -> None:
        deadline = time.monotonic() + RECONNECT_SECONDS
        while time.monotonic() < deadline:
            self.check()
            time.sleep(WITHOUT_NOTIFICATIONS_SECONDS)

    # --- SQLite

    def _watch_sqlite(self) -> None:
        with self.records.engine.connect() as connection:
            # Not SQLAlchemy, which would need most of the time, at every change.
            self._cursor = cursor = connection.connection.cursor()
            before, changed_at, checked_at = None, float("-inf"), float("-inf")
            while not self._stopped.is_set():
                version = cursor.execute("PRAGMA data_version").fetchone()[0]
                moment = time.monotonic()
                if version != before:
                    before, changed_at = version, moment
                if changed_at == moment or moment - checked_at > CHECK_SECONDS:
                    checked_at = moment
                    self.check()
                busy = moment - changed_at < STAYS_BUSY_SECONDS
                time.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

    # --- both

    def check(self) -> None:
        """Wake everybody for whom there is something to do."""
        for queue in self._queues_with_work():
            self.wake_queue(queue)
        with self._lock:
            waiters = {waiter for found in self._waiters.values() for waiter in found}
        statuses = self._statuses({name for waiter in waiters for name in waiter.ids})
        for waiter in waiters:
            if waiter.is_done(statuses):
                waiter.woken.set()

    def _queues_with_work(self) -> Iterable[str]:
        if not self._signals:
            return []
        query = self.records.queues_with_work(tuple(self._signals))
        if self._cursor is not None:
            return [row[0] for row in self._cursor.execute(query).fetchall()]
        with self.records.engine.connect() as connection:
            return list(connection.exec_driver_sql(query).scalars())

    def _statuses(self, ids: Collection[str]) -> Mapping[str, str]:
        if not ids or self._cursor is None or len(ids) > MOST_PARAMETERS:
            return self.records.status(*ids)
        marks = ",".join("?" * len(ids))
        query = (
            f"SELECT workflow_uuid, status FROM workflow_status WHERE workflow_uuid IN ({marks})"  # noqa: S608
        )
        return dict(self._cursor.execute(query, list(ids)).fetchall())

    def ended(self, workflow: str) -> None:
        """A workflow has ended."""
        with self._lock:
            for waiter in self._waiters.get(workflow, ()):
                waiter.woken.set()
