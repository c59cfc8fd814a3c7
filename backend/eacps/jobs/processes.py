"""The processes that run jobs: an orchestrator, and a worker per device."""

from __future__ import annotations

import os
import sys

from eacps.editors.devices import VISIBLE, checked, visible_name
from eacps.jobs.supervisor import Process
from eacps.settings import Settings

WORKER = (sys.executable, "-m", "eacps", "worker")


def work_processes(settings: Settings) -> list[Process]:
    """The processes of `eacps worker`: the orchestrator and all workers."""
    return [
        Process("orchestrator", [*WORKER, "--orchestrator"], reports_ready=True),
        *device_workers(settings),
    ]


def device_workers(settings: Settings) -> list[Process]:
    """One worker per device in the settings; together they use all CPU cores."""
    devices = checked(settings.devices)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // len(devices))
    return [_device_worker(slot, device, threads) for slot, device in enumerate(devices)]


def _device_worker(slot: int, device: str, threads: int) -> Process:
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    seen_as = device
    if device.startswith("cuda:"):
        # Each process sees one GPU, so that crashes and leaks stay isolated.
        environment[VISIBLE] = visible_name(device)
        seen_as = "cuda:0"
    command = [*WORKER, "--slot", str(slot), "--device", seen_as]
    return Process(f"worker {slot}", command, environment, reports_ready=True)
