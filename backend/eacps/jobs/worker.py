"""The process that owns one device: renders batches, one at a time."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dbos import DBOS

from eacps import log as logs
from eacps.domain import EditTask, Trial, from_json, to_json
from eacps.errors import CancelledError, EacpsError
from eacps.jobs import names
from eacps.jobs.beats import ProcessIdentity
from eacps.jobs.contract import DeviceRunner
from eacps.jobs.database import Records
from eacps.jobs.launch import (
    open_records,
    process_name,
    register,
    sole_owner,
    start_dbos,
    work_until_stopped,
)
from eacps.jobs.lifeline import die_with_supervisor
from eacps.jobs.pictures import StoredPictures
from eacps.runner import PictureIndex
from eacps.settings import Settings

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
LEAVE_SECONDS = 3.0
HUNG_EXIT_CODE = 75


def run_worker(
    settings: Settings,
    slot: int,
    device: str,
    device_factory: Callable[[PictureIndex], DeviceRunner],
) -> NoReturn:
    """Load the device's models, then render batches until stopped; never returns."""
    die_with_supervisor()
    name = process_name(settings, f"device-{slot}")
    me = ProcessIdentity(name, "worker", device, settings.equipment)
    with sole_owner(settings, me.name):
        records = open_records(settings)
        started = time.monotonic()
        # Loading comes before claiming: a worker that cannot load must not hold work.
        runner = device_factory(StoredPictures(records))
        worker = DeviceWorker(runner, records, settings)
        log.info("models loaded on %s in %.1f s", device, time.monotonic() - started)
        register(names.BATCH, worker.batch, crashes=names.CRASHES_BEFORE_GIVING_UP)
        # Only batches that were made for what is loaded here: others wait for a worker that fits.
        start_dbos(settings, me.name, {names.device_queue(settings.equipment): 1}, threads=8)
        work_until_stopped(me, records, settings, before_leaving=worker.close)


class WrongWorkerError(EacpsError):
    """A batch reached a worker with another editor or other judges than it was made for."""

    code = "wrong_worker"


class DeviceWorker:
    """A device with a lock, a watchdog and an ear for cancelling."""

    def __init__(self, runner: DeviceRunner, records: Records, settings: Settings) -> None:
        self._runner = runner
        self._records = records
        self._timeout_seconds = settings.batch_timeout_seconds
        self._equipment = settings.equipment
        self._device = threading.Lock()
        self._newest: dict[str, str] = {}

    def batch(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Workflow: render and judge one batch; what it did before a crash is done again."""
        task = from_json(EditTask, content["task"])
        trials = [from_json(Trial, trial) for trial in content["trials"]]
        if task.equipment != self._equipment:
            raise WrongWorkerError(
                f"This worker has {self._equipment} loaded; the batch was made for "
                f"{task.equipment or 'an unknown one'}."
            )
        workflow = DBOS.workflow_id or ""
        run = uuid.uuid4().hex
        self._newest[workflow] = run
        with logs.task_key(task.key), self._device:
            watchdog = threading.Timer(self._timeout_seconds, _leave_hung, (task.key,))
            watchdog.daemon = True
            watchdog.start()
            try:
                tick = self._tick(workflow, run)
                tick()
                candidates = self._runner.run_batch(task, trials, tick)
            except CancelledError:
                log.info("batch cancelled")
                # Nobody reads this: the row is cancelled already, and stays so.
                return {"candidates": []}
            finally:
                watchdog.cancel()
                if self._newest.get(workflow) == run:
                    del self._newest[workflow]
        return {"candidates": [to_json(candidate) for candidate in candidates]}

    def close(self) -> None:
        """Let the batch at hand end if that is a matter of seconds; start no other."""
        if self._device.acquire(timeout=LEAVE_SECONDS):
            # Its outcome is written just after the device is free.
            time.sleep(names.POLL_SECONDS)

    def _tick(self, workflow: str, run: str) -> Callable[[], None]:
        asked = 0.0

        def tick() -> None:
            nonlocal asked
            if time.monotonic() - asked < ASK_SECONDS:
                return
            asked = time.monotonic()
            still_ours = self._records.status(workflow).get(workflow) == "PENDING"
            # After cancel and retry the same batch may run again, here, under the same name.
            if not still_ours or self._newest.get(workflow) != run:
                raise CancelledError("The job was cancelled.")

        return tick


def _leave_hung(key: str) -> None:
    with logs.task_key(key):
        log.error("the batch hangs: this process ends, so that a fresh one can try again")
    logging.shutdown()
    os._exit(HUNG_EXIT_CODE)
