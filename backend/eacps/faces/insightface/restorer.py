"""A face restorer such as GFPGAN, applied to the swapped face only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from eacps.faces.geometry import similarity
from eacps.faces.insightface.crops import SIDE as CROP_SIDE
from eacps.faces.insightface.crops import Matrix, chained, cut, inverse, resampled
from eacps.faces.onnx_sessions import Placement, incompatible, open_session
from eacps.faces.protocol import Field, Pixels
from eacps.settings import Settings

SIDE: Final = 512
STRENGTH: Final = 0.8
"""Opacity of the restored face; the full opacity tends to look like plastic."""
_POINTS = np.array(
    [[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]],
    dtype=np.float32,
)
"""Positions of eyes, nose and mouth in the training data of such restorers (FFHQ)."""
_OF_CROP = np.array(
    [[46.29, 51.70], [81.53, 51.50], [64.03, 71.74], [49.55, 92.37], [78.73, 92.20]],
    dtype=np.float32,
)
"""Their positions in a swapper's crop of 128 px."""


class Restorer:
    """Restores a swapped crop; raises FaceError if the file is not a restorer."""

    def __init__(self, path: Path, settings: Settings, where: Placement) -> None:
        self.path = path
        self.session = open_session(path, settings, where)
        self._input = self.session.get_inputs()[0].name
        self._check()

    def restored(self, scene: Pixels, swapped: Pixels, matrix: Matrix, alpha: Field) -> Pixels:
        """Restore a swapped crop. `matrix` maps the scene to the crop; `alpha` is the opacity of
        the crop."""
        # Restorers expect a wider frame than swappers; the scene fills the margin.
        widened = similarity(_OF_CROP * (len(swapped) / CROP_SIDE), _POINTS)
        size = (SIDE, SIDE)
        frame = cut(scene, chained(matrix, widened), SIDE).astype(np.float32)
        frame += resampled(alpha, widened, size)[..., None] * (
            resampled(swapped, widened, size) - frame
        )
        back = resampled(self._run(frame), inverse(widened), (len(swapped), len(swapped)))
        mixed = swapped + STRENGTH * (back.astype(np.float32) - swapped)
        return np.rint(mixed).clip(0, 255).astype(np.uint8)

    def _run(self, frame: Field) -> Pixels:
        image = (frame / 127.5 - 1).transpose(2, 0, 1)[None].astype(np.float32)
        result = self.session.run(None, {self._input: image})[0]
        pixels = np.rint((result[0] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def _check(self) -> None:
        hint = (
            "Name a GFPGAN file with EACPS_FACE_RESTORER (one image of 512 px in, one out), or "
            "leave it empty."
        )
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        expected = [3, SIDE, SIDE]
        if len(inputs) != 1 or list(inputs[0].shape[1:]) != expected:
            seen = ", ".join(str(one.shape) for one in inputs)
            raise incompatible(
                self.path, f"a restorer takes one image, but this model takes {seen}", hint
            )
        if list(outputs[0].shape[1:]) != expected:
            raise incompatible(self.path, f"it returns {outputs[0].shape}, not an image", hint)
        try:
            self._run(np.full((SIDE, SIDE, 3), 128, dtype=np.float32))
        except Exception as error:
            raise incompatible(self.path, f"a trial run failed ({error})", hint) from None
