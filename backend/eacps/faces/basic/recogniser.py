"""Computes face embeddings with SFace."""

from __future__ import annotations

import cv2
import numpy as np

from eacps.faces.basic.loading import loading
from eacps.faces.download import RECOGNISER
from eacps.faces.geometry import similarity
from eacps.faces.protocol import Field, Pixels

SIDE = 112
IMAGE = "data"
SAME_PERSON = 0.363
"""The threshold on the cosine that SFace's authors recommend."""

PLACES = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
)
"""The positions of eyes, nose and mouth in the model's input."""


class Recogniser:
    """Turns a face into a unit vector; those of the same person are similar."""

    def __init__(self, weights: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        with loading(RECOGNISER):
            self._session = onnxruntime.InferenceSession(
                _without_weights_as_inputs(weights), options, providers=["CPUExecutionProvider"]
            )

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the model actually runs."""
        return tuple(self._session.get_providers())

    def __call__(self, image: Pixels, points: Field) -> Field:
        """The unit vector of the face with these five points."""
        alignment = similarity(points, PLACES).astype(np.float32)
        crop = cv2.warpAffine(image, alignment, (SIDE, SIDE))
        found = self._session.run(None, {IMAGE: cv2.dnn.blobFromImage(crop)})[0]
        vector = np.asarray(found, dtype=np.float32).ravel()
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _without_weights_as_inputs(weights: bytes) -> bytes:
    """Remove the weights from the inputs of the published file, or ONNX Runtime would need them."""
    import onnx

    model = onnx.load_model_from_string(weights)
    image = [value for value in model.graph.input if value.name == IMAGE]
    del model.graph.input[:]
    model.graph.input.extend(image)
    return bytes(model.SerializeToString())
