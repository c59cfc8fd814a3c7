"""The processes behind `eacps run`: an orchestrator that writes into a folder, and the workers."""

from __future__ import annotations

import sys
from pathlib import Path

from eacps.jobs.processes import device_workers
from eacps.jobs.supervisor import Process
from eacps.settings import Settings

REFUSALS_BEFORE_GIVING_UP = 2
"""A person waits for `eacps run`, so a process that cannot work must end it."""


def offline_processes(settings: Settings, folder: Path) -> list[Process]:
    """What `eacps offline-workers` keeps running for a run into this folder."""
    command = [sys.executable, "-m", "eacps", "offline-workers", str(folder), "--orchestrator"]
    return [Process("orchestrator", command), *device_workers(settings)]
