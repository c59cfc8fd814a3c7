"""Loading a model's bytes: what goes wrong there has one name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from eacps.errors import FaceError
from eacps.faces.download import ModelFile


def buffer(weights: bytes) -> NDArray[np.uint8]:
    """A model's bytes as OpenCV takes them."""
    return np.frombuffer(weights, dtype=np.uint8)


@contextmanager
def loading(model: ModelFile) -> Iterator[None]:
    """Whatever a library raises while it loads a model becomes a FaceError."""
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
