"""MediaPipe's face mesh: 468 points of a face, with depth."""

from __future__ import annotations

import cv2
import numpy as np

from eacps.faces.basic.landmarks import COUNT, EYES, Points
from eacps.faces.basic.loading import buffer, loading
from eacps.faces.download import MESH
from eacps.faces.protocol import Face, Pixels

SIDE = 192
"""The crop that the model looks at, in pixels."""

AROUND_BOX, AROUND_MESH = 1.6, 1.5
"""How much of its surroundings a face is looked at with: the first and the further times."""

LOOKS = 2
SURE = 12.0
"""An upright face's presence is about 28, one upside down has about 6."""

POINTS, PRESENCE = "conv2d_21", "conv2d_31"
"""The layers that hold the points, and how surely a face is in the crop."""


class FaceMesh:
    """Finds the points of one detected face, whichever way up it is."""

    def __init__(self, weights: bytes) -> None:
        with loading(MESH):
            self._net = cv2.dnn.readNetFromTFLite(buffer(weights))

    def __call__(self, image: Pixels, face: Face) -> Points:
        """The points in the image's pixels, 468 x (right, down, away)."""
        centre = np.array(face.centre)
        side = AROUND_BOX * max(face.box[2] - face.box[0], face.box[3] - face.box[1], 1.0)
        angle = self._upright(image, centre, float(side), _angle(face.points[0], face.points[1]))
        for _ in range(LOOKS):
            points = self._look(image, centre, float(side), angle)
            low, high = points[:, :2].min(0), points[:, :2].max(0)
            centre, side = (low + high) / 2, AROUND_MESH * max(*(high - low), 1.0)
            left, right = (points[list(eye), :2].mean(0) for eye in EYES)
            angle = _angle(left, right)
        return points

    def _upright(self, image: Pixels, centre: Points, side: float, angle: float) -> float:
        """The detector takes some faces that are upside down for upright ones: this does not."""
        self._show(image, centre, side, angle)
        presence = self._presence()
        if presence > SURE:
            return angle
        turned = {angle: presence}
        for turn in (np.pi, np.pi / 2, -np.pi / 2):
            self._show(image, centre, side, angle + turn)
            turned[angle + turn] = self._presence()
        return max(turned, key=lambda one: turned[one])

    def _look(self, image: Pixels, centre: Points, side: float, angle: float) -> Points:
        turn = self._show(image, centre, side, angle)
        found = np.asarray(self._net.forward(POINTS), dtype=np.float64).reshape(COUNT, 3)
        flat = (found[:, :2] - SIDE / 2) @ np.linalg.inv(turn).T + centre
        return np.hstack([flat, found[:, 2:] * side / SIDE])

    def _presence(self) -> float:
        return float(np.asarray(self._net.forward(PRESENCE)).ravel()[0])

    def _show(self, image: Pixels, centre: Points, side: float, angle: float) -> Points:
        """Give the network the crop; returns how the image's directions are turned in it."""
        scale = SIDE / side
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = np.hstack([turn, (SIDE / 2 - turn @ centre)[:, None]])
        self._net.setInput(cv2.dnn.blobFromImage(_crop(image, matrix, scale), 1 / 255))
        return turn


def _crop(image: Pixels, matrix: Points, scale: float) -> Pixels:
    """The crop at the model's size; large faces are averaged, not sampled."""
    shrink = max(1, int(0.5 / scale))
    size = (SIDE * shrink, SIDE * shrink)
    crop = cv2.warpAffine(
        image, matrix * shrink, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if shrink > 1:
        crop = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, dtype=np.uint8)


def _angle(left: Points, right: Points) -> float:
    return float(np.arctan2(right[1] - left[1], right[0] - left[0]))
