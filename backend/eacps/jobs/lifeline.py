"""Ends processes together with their parent, even if that was killed.

`python -m eacps.jobs.lifeline PROGRAM ARGUMENT ...` does so for any program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

PARENT_VARIABLE = "SUPERVISED_BY_PROCESS"
_SET_PARENT_DEATH_SIGNAL = 1


def die_with_supervisor(grace_seconds: float = 15.0) -> None:
    """Send this process SIGTERM when its supervisor dies, and exit after a grace period."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if not parent:
        return
    _ask_for_signal()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _ask_for_signal() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def main(command: Sequence[str]) -> int:
    """Execute the program on Linux; elsewhere run it as a child and watch the parent."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    if sys.platform == "linux":
        _ask_for_signal()
        if parent and os.getppid() != parent:
            return 1
        os.execvp(command[0], list(command))  # noqa: S606 - the supervisor's own command line
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, _: child.send_signal(received))
    while child.poll() is None:
        if parent and os.getppid() != parent:
            child.terminate()
        time.sleep(0.5)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
