"""Serves DBOS' queues by wake-ups instead of polls.

This replaces background threads of DBOS 3.4, of which every process has several, and which poll the
database for features that we do not use. Tests check that what is replaced here still exists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from dbos import DBOS, _dbos, _queue
from dbos._dbos import _get_dbos_instance
from dbos._queue import queue_worker_thread
from dbos._sys_db import SystemDatabase

from eacps.jobs import names
from eacps.jobs.wakeups import QueueSignal, Wakeups

Limit = int | Callable[[], int] | None
"""How many workflows of a queue this process runs at once; None means no limit."""

UNUSED_THREADS = ("queue_thread", "background_jobs_thread", "dynamic_scheduler_loop")
"""Threads that poll for queues, for delayed workflows and timeouts, and for schedules."""
UNUSED_LISTENERS = ("run_notification_listener", "run_notifier")
"""Threads for messages, events and streams between workflows."""
_THREAD = "queue-"


def _nothing(*_arguments: object) -> None:
    """Ends at once."""


def stop_dbos_polling() -> None:
    """Keep DBOS from starting threads that poll."""
    for name in UNUSED_THREADS:
        setattr(_dbos, name, _nothing)
    for name in UNUSED_LISTENERS:
        setattr(SystemDatabase, name, _nothing)


def serve_queue(name: str, limit: Limit, wakeups: Wakeups) -> None:
    """Run the workflows of a queue, as soon as they are queued."""
    at_once = limit() if callable(limit) else limit
    queue: Any = DBOS.register_queue(
        name,
        # Not global_concurrency, which also counts workflows of dead processes.
        worker_concurrency=at_once,
        polling_interval_sec=names.POLL_SECONDS,
        on_conflict="always_update",
    )
    # Or the thread would read the queue's settings at every turn.
    queue.database_backed_queue = False

    def update_limit() -> None:
        most = limit() if callable(limit) else limit
        if most is not None:
            # DBOS subtracts those that have begun.
            queue._worker_concurrency = max(0, most - claims.not_begun(name))

    signal = QueueSignal(update_limit)
    threading.Thread(
        target=queue_worker_thread,
        args=(signal, _get_dbos_instance(), queue),
        name=f"{_THREAD}{name}",
        daemon=True,
    ).start()
    wakeups.add_queue(name, signal)


def takes_work() -> bool:
    """Whether this process still claims workflows."""
    return any(thread.name.startswith(_THREAD) for thread in threading.enumerate())


class Claims:
    """Counts workflows that this process has claimed but not begun. DBOS counts one when its thread
    begins; until then, a queue that is woken again would claim one too many, which then waits here
    although another process is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, str] = {}

    def add(self, workflow: str, queue: str) -> None:
        """A workflow was claimed."""
        with self._lock:
            self._queues[workflow] = queue

    def remove(self, workflow: str) -> None:
        """It has begun, or will not begin."""
        with self._lock:
            self._queues.pop(workflow, None)

    def not_begun(self, queue: str) -> int:
        """The number of claimed workflows of a queue that have not begun."""
        with self._lock:
            return sum(each == queue for each in self._queues.values())


claims: Final = Claims()


def count_claims() -> None:
    """Let DBOS tell us what it claims."""
    module: Any = _queue
    execute = module.execute_dequeued_workflow
    running: Any = _get_dbos_instance()._active_workflows_set
    begin = running.add

    def executed(dbos: Any, status: Any, owner: str) -> Any:
        claims.add(status["workflow_uuid"], status["queue_name"])
        try:
            return execute(dbos, status, owner)
        except BaseException:
            claims.remove(status["workflow_uuid"])
            raise

    def begun(workflow: str, *bucket: str | None) -> Any:
        try:
            return begin(workflow, *bucket)
        finally:
            claims.remove(workflow)

    running.add = begun
    module.execute_dequeued_workflow = executed


def wake_when_done(wakeups: Wakeups) -> None:
    """Whenever a workflow ends in this process, wake who waits for it, and let its queue look for
    more work."""
    running: Any = _get_dbos_instance()._active_workflows_set
    remove = running._remove

    def removed(workflow: str, bucket: tuple[str, str | None] | None) -> None:
        remove(workflow, bucket)
        wakeups.ended(workflow)
        if bucket is not None:
            wakeups.wake_queue(bucket[0])

    running._remove = removed
