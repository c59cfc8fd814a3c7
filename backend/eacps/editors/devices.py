"""The devices of this machine, found without importing torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from eacps.errors import SettingsError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_KNOWN = re.compile(r"cpu|mps|cuda:[0-9]{1,3}")
_COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


def resolve(devices: Sequence[str]) -> tuple[str, ...]:
    """These devices, with `auto` replaced by all GPUs, or by the CPU if there are none."""
    if tuple(devices) != ("auto",):
        return tuple(devices)
    count = len(visible_gpus())
    if count:
        return tuple(f"cuda:{index}" for index in range(count))
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ("mps",)
    return ("cpu",)


def checked(devices: Sequence[str]) -> tuple[str, ...]:
    """The resolved devices; raises SettingsError if this machine does not have one of them."""
    found = resolve(devices)
    if not found:
        raise SettingsError("EACPS_DEVICES is empty.", hint="Set EACPS_DEVICES to auto or cpu.")
    unknown = [device for device in found if not _KNOWN.fullmatch(device)]
    if unknown:
        raise SettingsError(
            f"Unknown device {unknown[0]!r}.",
            hint="Set EACPS_DEVICES (or --devices) to auto, cpu, mps, or cuda:0,cuda:1 and so on.",
        )
    numbers = [int(device.removeprefix("cuda:")) for device in found if device.startswith("cuda:")]
    count = _gpu_count() if numbers else 0
    beyond = [f"cuda:{number}" for number in numbers if number >= count]
    if beyond:
        raise SettingsError(
            f"There is no {', '.join(beyond)}: this machine has {_counted(count)}.",
            hint="Change EACPS_DEVICES (or --devices), or install the NVIDIA driver.",
        )
    if "mps" in found and platform.system() != "Darwin":
        raise SettingsError("mps exists only on Apple machines.", hint="Change EACPS_DEVICES.")
    return found


def _counted(count: int) -> str:
    return {0: "no GPU", 1: "1 GPU (cuda:0)"}.get(count, f"{count} GPUs (cuda:0 to {count - 1})")


def visible_gpus() -> list[str]:
    """The GPUs that the driver reports and CUDA_VISIBLE_DEVICES allows, as it names them."""
    gpus = nvidia_gpus()
    allowed = _allowed()
    if not gpus or allowed is None:
        return [str(index) for index in range(len(gpus))]
    return allowed


def visible_name(device: str) -> str:
    """The value of CUDA_VISIBLE_DEVICES with which a process sees only this `cuda:N`."""
    index = int(device.removeprefix("cuda:"))
    allowed = _allowed()
    return allowed[index] if allowed and index < len(allowed) else str(index)


def _allowed() -> list[str] | None:
    """The GPUs that a batch system or the user assigned; None means all."""
    value = os.environ.get(VISIBLE)
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    # As in CUDA: the first invalid name ends the list.
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:end]


def _gpu_count() -> int:
    """The number of usable GPUs; without nvidia-smi it asks torch, in a separate process."""
    count = len(visible_gpus())
    if count or shutil.which("nvidia-smi"):
        return count
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _COUNT_GPUS], capture_output=True, text=True, timeout=120,
            check=False,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(answer) if answer.strip().isdecimal() else 0


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


def gpu_megabytes() -> list[int]:
    """The memory of each GPU that the NVIDIA driver reports."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(line) for line in told.splitlines() if line.strip().isdecimal()]


def memory_in_use(device: str) -> dict[str, int]:
    """Bytes of a GPU: `allocated` and `reserved` by this process, `free` and `total`. Empty for
    other devices, and before the GPU is used."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if not device.startswith("cuda") or cuda is None or not cuda.is_initialized():
        return {}
    free, total = cuda.mem_get_info(device)
    return {
        "allocated": cuda.memory_allocated(device),
        "reserved": cuda.memory_reserved(device),
        "free": free,
        "total": total,
    }
