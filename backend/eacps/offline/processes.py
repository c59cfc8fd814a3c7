"""The processes of `eacps run`: an orchestrator that writes to a folder, and workers."""

from __future__ import annotations

import sys
from pathlib import Path

from eacps.jobs.processes import device_workers
from eacps.jobs.supervisor import Process
from eacps.settings import Settings

REFUSALS_BEFORE_GIVING_UP = 2
"""A process that cannot start must end `eacps run`, because somebody waits for it."""


def offline_processes(settings: Settings, folder: Path) -> list[Process]:
    """The processes that `eacps offline-workers` supervises for this folder."""
    command = [sys.executable, "-m", "eacps", "offline-workers", str(folder), "--orchestrator"]
    return [Process("orchestrator", command, reports_ready=True), *device_workers(settings)]
