"""The worker process of one device, which runs one batch at a time.

While servers judge the pictures of a batch, the device renders the next one. What was rendered is
stored before it is judged, and so is every answer of a server: after a crash, a batch is repeated
without rendering, or asking, again what is there.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NoReturn

import sqlalchemy as sa
from dbos import DBOS

from eacps import log as logs
from eacps import metrics, tracing
from eacps.domain import Candidate, EditTask, Trial, from_json, to_json
from eacps.errors import CancelledError, EacpsError, EditorError, first_line
from eacps.jobs import names
from eacps.jobs.beats import ProcessIdentity, beat
from eacps.jobs.contract import DeviceRunner
from eacps.jobs.database import Records
from eacps.jobs.launch import (
    Finishing,
    open_records,
    process_lock,
    process_name,
    register,
    run_until_stopped,
    start_dbos,
)
from eacps.jobs.lifeline import die_with_supervisor
from eacps.jobs.observing import start_observing, watch_memory
from eacps.jobs.outages import outage, outages
from eacps.jobs.pictures import StoredPictures
from eacps.jobs.wakeups import Wakeups
from eacps.runner import PictureIndex
from eacps.settings import Settings

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
LEAVE_SECONDS = 3.0
HUNG_EXIT_CODE = 75
NOT_STARTED = "worker that cannot start"
"""The role of a worker whose models cannot be loaded."""
NOTE_LENGTH = 200
MOST_AT_ONCE = 32
"""The most batches of a device, of which one is rendered, and the others wait for servers."""


def run_worker(
    settings: Settings,
    slot: int,
    device: str,
    device_factory: Callable[[PictureIndex], DeviceRunner],
) -> NoReturn:
    """Load the models onto the device and run batches until stopped; never returns."""
    die_with_supervisor()
    name = process_name(settings, f"device-{slot}")
    me = ProcessIdentity(name, "worker", device, settings.equipment)
    start_observing(settings, f"worker {slot}", slot=slot)
    watch_memory(device)
    with process_lock(settings, me.name):
        records = open_records(settings, connections=2)
        wakeups = Wakeups(records, waits=False)
        started = time.monotonic()
        # Load first: a worker whose models fail to load must not claim batches.
        runner = _loaded(device_factory, records, me)
        queue = names.device_queue(settings.equipment)
        worker = DeviceWorker(runner, records, settings, lambda: wakeups.wake_queue(queue))
        seconds = time.monotonic() - started
        metrics.MODEL_LOAD_SECONDS.set(seconds)
        log.info("models loaded on %s in %.1f s", device, seconds)
        register(names.BATCH, worker.batch, crashes=names.CRASHES_BEFORE_GIVING_UP)
        # Only batches for these models; others wait for a matching worker.
        threads = MOST_AT_ONCE + 8
        start_dbos(settings, me.name, {queue: worker.at_once}, threads, wakeups=wakeups)
        finishing = Finishing(names.batch_workflow("", "").rstrip(":"))
        run_until_stopped(
            me,
            records,
            settings,
            before_leaving=worker.close,
            finishing=finishing,
            wakeups=wakeups,
        )


def _loaded(
    device_factory: Callable[[PictureIndex], DeviceRunner], records: Records, me: ProcessIdentity
) -> DeviceRunner:
    """Load the models; if that fails, the status page says why until somebody has mended it."""
    try:
        return device_factory(StoredPictures(records))
    except Exception as error:
        problem = error
    if not isinstance(problem, EacpsError):
        log.error("the models cannot be loaded", exc_info=problem)
        problem = EditorError(
            f"The models of {me.device} cannot be loaded: {first_line(problem).rstrip('.')}.",
            hint="Check EACPS_EDITOR and the other settings of models; the log has more.",
        )
    with suppress(sa.exc.SQLAlchemyError):
        # Without equipment, because it can run no batch.
        listed = replace(me, role=NOT_STARTED, equipment="")
        beat(listed, records, str(problem)[:NOTE_LENGTH], alive=False)
    raise problem


class WrongWorkerError(EacpsError):
    """A batch reached a worker with other models than it needs."""

    code = "wrong_worker"


class DeviceWorker:
    """Runs batches on a device with a lock, a watchdog and checks for cancellation. `wake` lets
    another batch begin."""

    def __init__(
        self,
        runner: DeviceRunner,
        records: Records,
        settings: Settings,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner = runner
        self._records = records
        self._timeout_seconds = settings.batch_timeout_seconds
        self._equipment = settings.equipment
        self._wake = wake
        self._device = threading.Lock()
        self._judged = 0
        self._counting = threading.Lock()
        self._newest: dict[str, str] = {}

    def at_once(self) -> int:
        """How many batches may run now: one on the device, and those that wait for servers. Only
        where servers judge, and a batch may take no longer than to be claimed, another one waits
        for the device: else none waits here while the device of another worker is free."""
        with self._counting:
            return min(MOST_AT_ONCE, self._judged + (2 if self._judged else 1))

    def batch(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Workflow of a batch: render and judge it. After a crash it starts from the beginning."""
        task = from_json(EditTask, content["task"])
        trials = [from_json(Trial, trial) for trial in content["trials"]]
        if task.equipment != self._equipment:
            raise WrongWorkerError(
                f"This worker has {self._equipment} loaded, but the batch needs "
                f"{task.equipment or 'unknown equipment'}."
            )
        workflow = DBOS.workflow_id or ""
        run = uuid.uuid4().hex
        ids = {"key": task.key, "batch": workflow.rpartition(":")[2]}
        self._newest[workflow] = run
        with (
            tracing.continued(content.get("trace", {})),
            logs.ids(**ids),
            self._turn(workflow) as let_go,
        ):
            watchdog = Watchdog(self._timeout_seconds, task.key)
            try:
                tick = self._tick(workflow, run)
                tick()
                with tracing.span("batch", trials=len(trials)), metrics.BATCH_SECONDS.time():
                    candidates = self._runner.run_batch(task, trials, tick, let_go)
                _count(candidates)
            except CancelledError:
                metrics.BATCHES.labels("cancelled").inc()
                log.info("batch cancelled")
                # Unused, because the workflow is already stored as cancelled.
                return {"candidates": []}
            finally:
                watchdog.cancel()
                if self._newest.get(workflow) == run:
                    del self._newest[workflow]
        return {"candidates": [to_json(candidate) for candidate in candidates]}

    @contextmanager
    def _turn(self, workflow: str) -> Iterator[Callable[[], None]]:
        """The device for one batch, until the batch ends or needs it no longer. If the process
        crashes, that counts against the batch on the device, and against no other."""
        waits = not self._device.acquire(blocking=False)
        if waits:
            with self._unless_away():
                self._records.count_crash(workflow, -1)
            self._device.acquire()
        metrics.BUSY.inc()
        holds = True

        def let_go() -> None:
            nonlocal holds
            if not holds:
                return
            with self._unless_away():
                self._records.pardon(workflow)
            holds = False
            with self._counting:
                self._judged += 1
            metrics.BUSY.dec()
            self._device.release()
            self._wake()

        try:
            if waits:
                with self._unless_away():
                    self._records.count_crash(workflow, 1)
            yield let_go
        finally:
            if holds:
                metrics.BUSY.dec()
                self._device.release()
            else:
                with self._counting:
                    self._judged -= 1

    @staticmethod
    @contextmanager
    def _unless_away() -> Iterator[None]:
        """While the database is away, a crash counts against all batches of the process."""
        try:
            yield
        except Exception as error:
            if not outage(error):
                raise

    def close(self) -> None:
        """Wait a few seconds for the current batch to finish, and prevent another one."""
        if self._device.acquire(timeout=LEAVE_SECONDS):
            # The outcome is stored shortly after the lock is released.
            time.sleep(names.POLL_SECONDS)

    def _tick(self, workflow: str, run: str) -> Callable[[], None]:
        asked = 0.0

        def tick() -> None:
            nonlocal asked
            if time.monotonic() - asked < ASK_SECONDS:
                return
            asked = time.monotonic()
            try:
                still_ours = self._records.status(workflow).get(workflow) == "PENDING"
            except Exception as error:
                if not outage(error):
                    raise
                # Render on; who owns the batch is asked again when the database is back.
                return
            # After a cancel and retry, the same batch may already run again under this name.
            if not still_ours or self._newest.get(workflow) != run:
                raise CancelledError("The job was cancelled.")

        return tick


def _count(candidates: Sequence[Candidate]) -> None:
    failed = [each for each in candidates if each.failure is not None]
    outcome = "failed" if len(failed) == len(candidates) else "done"
    metrics.BATCHES.labels(outcome).inc()
    log.info("batch %s: %d candidates, %d of them failed", outcome, len(candidates), len(failed))


class Watchdog:
    """Ends this process when a batch hangs. Waiting for an outage to end is not hanging."""

    def __init__(self, seconds: float, key: str) -> None:
        self._seconds = seconds
        self._key = key
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """The batch ended."""
        self._done.set()

    def _watch(self) -> None:
        left = self._seconds
        while not self._done.wait(left):
            left = self._seconds - outages.seconds_since()
            if left <= 0:
                _exit_hung(self._key)
                return


def _exit_hung(key: str) -> None:
    with logs.ids(key=key):
        log.error("the batch hangs; exiting, so that a new process can retry it")
    logging.shutdown()
    os._exit(HUNG_EXIT_CODE)
