"""Starts processes, restarts those that die, and stops all of them when it ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from eacps.errors import EacpsError
from eacps.jobs.lifeline import PARENT_VARIABLE
from eacps.settings import Settings

log = logging.getLogger(__name__)

GRACE_SECONDS = 12.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
POLL_SECONDS = 0.1
REFUSED_EXIT_CODE = 2
FAILED_STARTS_BEFORE_GIVING_UP = 3
READY_VARIABLE = "SUPERVISOR_READY_FILE"
"""The file that a process makes as soon as it is ready to work."""
DRAINED_EXIT_CODE = 76
"""A process that was asked to drain has finished its work, and is not restarted."""
DRAIN_SIGNAL = signal.SIGUSR1
"""Asks a process to drain. It ends one that is still loading its models, which has no work yet."""


@dataclass(frozen=True)
class Process:
    """A program to keep running, with its name in logs and additional environment variables.

    `reports_ready` means that it calls `report_ready`.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    reports_ready: bool = False
    drains: bool = True
    """Whether the process ends by itself when it is asked to drain."""


def report_ready() -> None:
    """Tell the supervisor of this process, if there is one, that it has started."""
    path = os.environ.get(READY_VARIABLE)
    if path:
        Path(path).touch()


class RefusedError(EacpsError):
    """A process cannot start: it exits again and again before it is ready."""

    code = "refused"


class SupervisedProcess:
    """A process that is restarted when it dies, with exponential backoff."""

    def __init__(self, process: Process, ready: Path) -> None:
        self.process = process
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self._due = 0.0
        self._last_code: int | None = None
        self.refusals = 0
        self.failed_starts = 0
        self.drained = False
        self._asked_to_drain = False

    def check(self, moment: float) -> None:
        """Start the process if it is due, and detect whether it died."""
        if self.drained:
            return
        if self._child is None:
            if moment >= self._due:
                self._start(moment)
            return
        code = self._child.poll()
        if code is None:
            return
        self._child = None
        if self._asked_to_drain or code in (DRAINED_EXIT_CODE, -DRAIN_SIGNAL):
            self.drained = True
            log.info("%s has drained", self.process.name)
            return
        self._count(code)
        steady = self._was_ready and moment - self._started > STEADY_SECONDS
        self._pause = 0.5 if steady else min(LONGEST_PAUSE_SECONDS, max(0.5, 2 * self._pause))
        self._due = moment + self._pause
        log.warning(
            "%s exited (%s); restarting in %.1f s", self.process.name, _words(code), self._pause
        )

    @property
    def _was_ready(self) -> bool:
        return not self.process.reports_ready or self._ready.exists()

    def _count(self, code: int) -> None:
        self.refusals = self.refusals + 1 if code == REFUSED_EXIT_CODE else 0
        if self._was_ready:
            self.failed_starts = 0
        else:
            self.failed_starts = self.failed_starts + 1 if code == self._last_code else 1
        self._last_code = code

    def require_startable(self, refusals: int) -> None:
        """Raise RefusedError after so many refusals, or equal failures to start, in a row."""
        if self.refusals >= refusals:
            raise RefusedError(f"{self.process.name} cannot start; see its log.")
        if self.failed_starts >= FAILED_STARTS_BEFORE_GIVING_UP:
            raise RefusedError(
                f"{self.process.name} cannot start: it ended {self.failed_starts} times before it "
                f"was ready ({_words(self._last_code or 0)}).",
                hint="If it was killed, the models may need more memory than there is.",
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        if self._child is None or self._child.poll() is not None:
            return
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            return

    def drain(self) -> None:
        """Ask the process to drain, once; one that is not running is not started again."""
        if not self.process.drains or self.drained or self._asked_to_drain:
            return
        self._asked_to_drain = True
        if self._child is None:
            self.drained = True
        else:
            # Not to its children, which do not know the signal.
            self._child.send_signal(DRAIN_SIGNAL)

    def ended(self) -> bool:
        """Whether the process is not running."""
        return self._child is None or self._child.poll() is not None

    def _start(self, moment: float) -> None:
        lifeline = [sys.executable, "-m", "eacps.jobs.lifeline"]
        environment = {
            **os.environ,
            **self.process.environment,
            PARENT_VARIABLE: str(os.getpid()),
            READY_VARIABLE: str(self._ready) if self.process.reports_ready else "",
        }
        self._ready.unlink(missing_ok=True)
        self._started = moment
        # A new session, so that Ctrl-C reaches only the supervisor, which stops the others.
        self._child = subprocess.Popen(
            [*lifeline, *self.process.command], env=environment, start_new_session=True
        )
        log.info("%s started (process %d)", self.process.name, self._child.pid)


def run_supervisor(
    settings: Settings, processes: Sequence[Process], *, give_up_after: int | None = None
) -> None:
    """Keep processes running until SIGINT, SIGTERM or SIGHUP; a second signal kills them.

    SIGUSR1 drains them. When one has drained, the others must; when all have, this function ends.
    With `give_up_after`, stops everything and raises RefusedError if a process exits with code 2
    that many times in a row, or cannot start for another reason.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    # No locks: a handler that waits for one that its own thread holds waits for ever.
    signals: list[int] = []
    asked_to_drain: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    def begin_to_drain(number: int, _frame: FrameType | None) -> None:
        asked_to_drain.append(number)

    previous = {
        number: signal.signal(number, ask)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    previous[DRAIN_SIGNAL] = signal.signal(DRAIN_SIGNAL, begin_to_drain)
    folder = tempfile.TemporaryDirectory(prefix="eacps-", ignore_cleanup_errors=True)
    supervised = [
        SupervisedProcess(process, Path(folder.name, str(number)))
        for number, process in enumerate(processes)
    ]
    try:
        while not signals and not _drained(supervised):
            for one in supervised:
                one.check(time.monotonic())
                if give_up_after is not None:
                    one.require_startable(give_up_after)
            if asked_to_drain or any(one.drained for one in supervised):
                for one in supervised:
                    one.drain()
            time.sleep(POLL_SECONDS)
    finally:
        _stop(supervised, signals)
        folder.cleanup()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _drained(supervised: Sequence[SupervisedProcess]) -> bool:
    working = [one for one in supervised if one.process.drains]
    return bool(working) and all(one.drained for one in working)


def _stop(supervised: Sequence[SupervisedProcess], signals: Sequence[int]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    for one in supervised:
        one.send(signal.SIGTERM)
    while not all(one.ended() for one in supervised):
        if time.monotonic() > deadline or len(signals) > 1:
            for one in supervised:
                one.send(signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _words(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
