"""What engine insightface and OpenCV need is installed once, and in the versions that were seen
to work."""

from __future__ import annotations

import re
import warnings
from importlib.metadata import distributions, version
from pathlib import Path

import numpy as np
import pytest

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements.txt"


def required(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)$", REQUIREMENTS.read_text(), flags=re.MULTILINE)
    assert found, f"{package} is not pinned"
    return found[1]


def installed(*names: str) -> list[str]:
    known = {(one.metadata["Name"] or "").lower() for one in distributions()}
    return [name for name in names if name in known]


def test_there_is_one_opencv_and_it_is_the_required_one() -> None:
    import cv2

    assert installed("opencv-python", "opencv-python-headless", "opencv-contrib-python") == [
        "opencv-python-headless"
    ], "several packages fill the folder cv2: see docs/dependencies.md"
    assert version("opencv-python-headless") == required("opencv-python-headless")
    # The package's version has a fourth part, its build.
    assert required("opencv-python-headless").startswith(f"{cv2.__version__}.")


def test_there_is_one_onnx_runtime_and_it_loads() -> None:
    import onnxruntime

    assert len(installed("onnxruntime", "onnxruntime-gpu")) == 1, (
        "both fill the folder onnxruntime: see docs/dependencies.md"
    )
    assert onnxruntime.__version__ == required("onnxruntime")
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()


def test_insightface_aligns_faces_without_complaint() -> None:
    from insightface.utils import face_align

    assert version("insightface") == "2.1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = face_align.estimate_norm(face_align.arcface_dst, 112)
    assert matrix == pytest.approx(np.eye(3)[:2], abs=1e-4)
