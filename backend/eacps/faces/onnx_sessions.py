"""ONNX Runtime sessions, and the providers on which they actually run."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eacps.errors import FaceError
from eacps.settings import Settings

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Placement:
    """Where sessions should run. `demanded` is a required provider; `note` says why they do not
    run on the worker's device."""

    providers: tuple[tuple[str, dict[str, str]], ...]
    demanded: str = ""
    note: str = ""


def placement(settings: Settings, device: str) -> Placement:
    """Where a worker on `device` (`cpu`, `cuda:1`, `mps`) should run face models."""
    import onnxruntime

    wish = settings.face_provider
    if wish == "cpu" or (wish == "auto" and device == "cpu"):
        return Placement(((CPU, {}),))
    if wish == "auto" and not device.startswith("cuda"):
        return Placement(((CPU, {}),), note=f"Face models run on the CPU, not on {device}.")
    if CUDA not in onnxruntime.get_available_providers():
        reason = "the installed ONNX Runtime has no CUDA provider"
        if wish == "cuda":
            raise _provider_missing(reason)
        return Placement(((CPU, {}),), note=_fell_back(device, reason))
    # Also load CUDA's libraries from Python packages.
    onnxruntime.preload_dlls()
    # An exhaustive search would choose algorithms by speed, and results would vary between runs.
    cuda = {
        "device_id": device.partition(":")[2] or "0",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    demanded = CUDA if wish == "cuda" else ""
    return Placement(((CUDA, cuda), (CPU, {})), demanded)


def options(settings: Settings) -> Any:
    """Session options with the worker's number of threads and without log output."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads_of(settings)
    chosen.log_severity_level = 4
    return chosen


def threads_of(settings: Settings) -> int:
    """The number of threads of this worker; 0 means the library's default."""
    # ONNX Runtime's and OpenCV's thread pools ignore OMP_NUM_THREADS.
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return settings.threads or (int(stated) if stated.isdigit() else 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what libraries print to standard output, which may be used for JSON."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def open_session(path: Path, settings: Settings, where: Placement) -> Any:
    """Open a model file; raises FaceError `model_corrupt` if ONNX Runtime cannot load it."""
    import onnxruntime

    try:
        with quiet():
            return onnxruntime.InferenceSession(
                str(path), sess_options=options(settings), providers=list(where.providers)
            )
    except Exception as error:
        raise corrupt(path, error) from None


def running_on(sessions: Iterable[Any]) -> tuple[str, ...]:
    """The distinct providers that the sessions report."""
    return tuple(dict.fromkeys(name for one in sessions for name in one.get_providers()))


def checked(where: Placement, sessions: Sequence[Any]) -> str:
    """A note about where the sessions run; raises FaceError if a required provider is missing."""
    wanted = where.providers[0][0]
    if all(wanted in one.get_providers() for one in sessions):
        return where.note
    reason = "its CUDA provider could not start (a library is missing, or there is no such GPU)"
    if where.demanded:
        raise _provider_missing(f"ONNX Runtime is installed, but {reason}")
    return _fell_back(f"cuda:{where.providers[0][1].get('device_id', '0')}", reason)


def corrupt(path: Path, error: Exception) -> FaceError:
    """The error for a file that cannot be loaded."""
    return FaceError(
        f"The model file {path} cannot be loaded ({type(error).__name__}).",
        hint="It is damaged or incomplete: replace it.",
        code="model_corrupt",
    )


def incompatible(path: Path, problem: str, hint: str) -> FaceError:
    """The error for a file that contains the wrong model."""
    return FaceError(
        f"{path} is not the right model: {problem}.", hint=hint, code="model_incompatible"
    )


def _provider_missing(reason: str) -> FaceError:
    return FaceError(
        f"EACPS_FACE_PROVIDER is cuda, but {reason}.",
        hint="Replace onnxruntime with onnxruntime-gpu[cuda,cudnn] (only one of them may be "
        "installed; the Dockerfile shows how), or set EACPS_FACE_PROVIDER to auto or cpu.",
        code="provider_missing",
    )


def _fell_back(device: str, reason: str) -> str:
    return f"Face models run on the CPU, not on {device}: {reason}."
