"""Which devices this machine has, without importing torch."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence


def resolve(devices: Sequence[str]) -> tuple[str, ...]:
    """The devices named, with `auto` replaced by all GPUs, or else the CPU."""
    if tuple(devices) != ("auto",):
        return tuple(devices)
    count = len(nvidia_gpus())
    if count:
        return tuple(f"cuda:{index}" for index in range(count))
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ("mps",)
    return ("cpu",)


def nvidia_gpus() -> list[str]:
    """One line per GPU that the NVIDIA driver reports."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
