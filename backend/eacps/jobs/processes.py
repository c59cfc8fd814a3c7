"""The processes that work on jobs: one orchestrator, and one worker per device."""

from __future__ import annotations

import os
import sys

from eacps.editors.devices import VISIBLE, checked, visible_name
from eacps.jobs.supervisor import Process
from eacps.settings import Settings

WORKER = (sys.executable, "-m", "eacps", "worker")


def work_processes(settings: Settings) -> list[Process]:
    """The orchestrator and the devices' workers: what `eacps worker` keeps running."""
    return [Process("orchestrator", [*WORKER, "--orchestrator"]), *device_workers(settings)]


def device_workers(settings: Settings) -> list[Process]:
    """One worker per device of the settings; together they use all of the CPU's cores."""
    devices = checked(settings.devices)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // len(devices))
    return [_device_worker(slot, device, threads) for slot, device in enumerate(devices)]


def _device_worker(slot: int, device: str, threads: int) -> Process:
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    seen_as = device
    if device.startswith("cuda:"):
        # One process sees one GPU: a crash or a leak stays on it.
        environment[VISIBLE] = visible_name(device)
        seen_as = "cuda:0"
    command = [*WORKER, "--slot", str(slot), "--device", seen_as]
    return Process(f"worker {slot}", command, environment)
