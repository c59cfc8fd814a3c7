"""The supervisor with small test programs: restarts, clean shutdown, no orphans."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.chaos.stage import is_alive
from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = 300_000
PROGRAM = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], f"{time.time()}").write_text(str(os.getpid()))
time.sleep(float(sys.argv[2]))
sys.exit(3)
"""
SUPERVISOR = """
import sys
from eacps import log
from eacps.jobs.supervisor import Process, run_supervisor
from eacps.settings import Settings
from pathlib import Path

from tests.patience import PATIENCE, wait_until
log.configure("INFO", "text", "supervisor")
program, folder = sys.argv[1:]
run_supervisor(Settings(data_dir=Path(folder)), [
    Process("short", [sys.executable, "-c", program, folder + "/short", "0"]),
    Process("long", [sys.executable, "-c", program, folder + "/long", "600"], {"SEEN": "1"}),
])
"""


def start(folder: Path) -> subprocess.Popen[str]:
    for name in ("short", "long"):
        (folder / name).mkdir()
    command = [sys.executable, "-c", SUPERVISOR, PROGRAM, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def pids(folder: Path, name: str) -> list[int]:
    return [int(text) for text in (f.read_text() for f in (folder / name).iterdir()) if text]


def test_what_dies_is_restarted_and_all_end_together(tmp_path: Path) -> None:
    supervisor = start(tmp_path)
    wait_until(lambda: len(pids(tmp_path, "short")) >= 3 and pids(tmp_path, "long"))
    supervisor.send_signal(signal.SIGINT)
    _, log = supervisor.communicate(timeout=PATIENCE)
    assert supervisor.returncode == 0
    assert len(pids(tmp_path, "long")) == 1
    assert not any(is_alive(pid) for pid in pids(tmp_path, "long"))
    assert "short exited (exit code 3); restarting in" in log


def test_programs_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = start(tmp_path)
    wait_until(lambda: pids(tmp_path, "long"))
    supervisor.kill()
    supervisor.communicate(timeout=PATIENCE)
    wait_until(lambda: not any(is_alive(pid) for pid in pids(tmp_path, "long")))


NOT_DRAINED = """
import sys
from pathlib import Path
from eacps.jobs.supervisor import Process, run_supervisor
from eacps.settings import Settings

folder = Path(sys.argv[1])
program = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'began').touch(); time.sleep(600)"
command = [sys.executable, "-c", program, str(folder)]
run_supervisor(Settings(data_dir=folder), [Process("long", command, drains=False)])
"""


def test_signals_in_quick_succession_do_not_block_each_other(tmp_path: Path) -> None:
    """A handler that takes a lock waits for ever if it interrupts a holder of that lock."""
    supervisor = subprocess.Popen([sys.executable, "-c", NOT_DRAINED, str(tmp_path)], cwd=ROOT)
    try:
        wait_until((tmp_path / "began").exists)
        for _ in range(SIGNALS):
            supervisor.send_signal(signal.SIGUSR1)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(PATIENCE) == 0
    finally:
        supervisor.kill()
