"""ONNX Runtime sessions on the device that the settings name, and what they really run on."""

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
    """Where sessions are to run; `demanded` is a provider that must not be missing, `note` says
    why they do not run where the worker does."""

    providers: tuple[tuple[str, dict[str, str]], ...]
    demanded: str = ""
    note: str = ""


def placement(settings: Settings, device: str) -> Placement:
    """Where a worker on `device` (`cpu`, `cuda:1`, `mps`) runs face models."""
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
    # CUDA's libraries may lie in Python packages, where the loader does not look by itself.
    onnxruntime.preload_dlls()
    # Algorithms picked by timing them would give other pixels from run to run.
    cuda = {
        "device_id": device.partition(":")[2] or "0",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    demanded = CUDA if wish == "cuda" else ""
    return Placement(((CUDA, cuda), (CPU, {})), demanded)


def options(settings: Settings) -> Any:
    """Session options: threads as the worker has them, and no chatter on standard error."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads_of(settings)
    chosen.log_severity_level = 4
    return chosen


def threads_of(settings: Settings) -> int:
    """Threads of this worker; 0 leaves it to the library."""
    # Workers are started with OMP_NUM_THREADS; ONNX Runtime's and OpenCV's pools ignore it.
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return settings.threads or (int(stated) if stated.isdigit() else 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what libraries print while loading off standard output: it may be somebody's JSON."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def open_session(path: Path, settings: Settings, where: Placement) -> Any:
    """A session on a file; raises FaceError `model_corrupt` if ONNX Runtime cannot load it."""
    import onnxruntime

    try:
        with quiet():
            return onnxruntime.InferenceSession(
                str(path), sess_options=options(settings), providers=list(where.providers)
            )
    except Exception as error:
        raise corrupt(path, error) from None


def running_on(sessions: Iterable[Any]) -> tuple[str, ...]:
    """The providers in use, as the sessions report them, each once."""
    return tuple(dict.fromkeys(name for one in sessions for name in one.get_providers()))


def checked(where: Placement, sessions: Sequence[Any]) -> str:
    """The note on where the sessions run; raises FaceError if a demanded provider is missing."""
    wanted = where.providers[0][0]
    if all(wanted in one.get_providers() for one in sessions):
        return where.note
    reason = "its CUDA provider could not start (a library is missing, or there is no such GPU)"
    if where.demanded:
        raise _provider_missing(f"ONNX Runtime is there, but {reason}")
    return _fell_back(f"cuda:{where.providers[0][1].get('device_id', '0')}", reason)


def corrupt(path: Path, error: Exception) -> FaceError:
    """What to say of a file that no model can be loaded from."""
    return FaceError(
        f"The model file {path} cannot be loaded ({type(error).__name__}).",
        hint="It is damaged or incomplete: put a fresh copy in its place.",
        code="model_corrupt",
    )


def incompatible(path: Path, problem: str, hint: str) -> FaceError:
    """What to say of a file that loads, but is not the model that belongs there."""
    return FaceError(f"{path} does not fit: {problem}.", hint=hint, code="model_incompatible")


def _provider_missing(reason: str) -> FaceError:
    return FaceError(
        f"EACPS_FACE_PROVIDER is cuda, but {reason}.",
        hint="Replace onnxruntime by onnxruntime-gpu[cuda,cudnn] (only one of them may be "
        "installed; the Dockerfile shows how), or set EACPS_FACE_PROVIDER to auto or cpu.",
        code="provider_missing",
    )


def _fell_back(device: str, reason: str) -> str:
    return f"Face models run on the CPU, not on {device}: {reason}."
