"""Helpers for loading models from bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from eacps.errors import FaceError
from eacps.faces.download import ModelFile


def buffer(weights: bytes) -> NDArray[np.uint8]:
    """A model's bytes as an array for OpenCV."""
    return np.frombuffer(weights, dtype=np.uint8)


@contextmanager
def loading(model: ModelFile) -> Iterator[None]:
    """Convert exceptions from loading a model to FaceError."""
    try:
        yield
    except FaceError:
        raise
    except Exception as error:
        raise FaceError(
            f"{model.name} could not be loaded ({type(error).__name__}).",
            hint="Install the versions of opencv-python and onnxruntime in requirements.txt.",
            code="model_incompatible",
        ) from error
