"""Starts processes, restarts those that die, and stops all of them when it ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Process:
    """A program to keep running, with its name in logs and additional environment variables."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class RefusedError(EacpsError):
    """A process exits repeatedly because of its configuration."""

    code = "refused"


class SupervisedProcess:
    """A process that is restarted when it dies, with exponential backoff."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self._due = 0.0
        self.refusals = 0

    def check(self, moment: float) -> None:
        """Start the process if it is due, and detect whether it died."""
        if self._child is None:
            if moment >= self._due:
                self._start(moment)
            return
        code = self._child.poll()
        if code is None:
            return
        self._child = None
        self.refusals = self.refusals + 1 if code == REFUSED_EXIT_CODE else 0
        steady = moment - self._started > STEADY_SECONDS
        self._pause = 0.5 if steady else min(LONGEST_PAUSE_SECONDS, max(0.5, 2 * self._pause))
        self._due = moment + self._pause
        log.warning(
            "%s exited (%s); restarting in %.1f s", self.process.name, _words(code), self._pause
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        if self._child is None or self._child.poll() is not None:
            return
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            return

    def ended(self) -> bool:
        """Whether the process is not running."""
        return self._child is None or self._child.poll() is not None

    def _start(self, moment: float) -> None:
        lifeline = [sys.executable, "-m", "eacps.jobs.lifeline"]
        environment = {**os.environ, **self.process.environment, PARENT_VARIABLE: str(os.getpid())}
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

    Stops everything if a process exits with code 2 `give_up_after` times in a row.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    signals: list[int] = []
    woken = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        woken.set()

    previous = {
        number: signal.signal(number, ask)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    supervised = [SupervisedProcess(process) for process in processes]
    try:
        while not signals:
            for one in supervised:
                one.check(time.monotonic())
                if give_up_after is not None and one.refusals >= give_up_after:
                    raise RefusedError(f"{one.process.name} cannot start; see its log.")
            woken.wait(POLL_SECONDS)
    finally:
        _stop(supervised, signals)
        for number, handler in previous.items():
            signal.signal(number, handler)


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
