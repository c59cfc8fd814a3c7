"""MediaPipe's face mesh: 468 points of a face, with depth."""

from __future__ import annotations

import cv2
import numpy as np

from eacps.faces.basic.landmarks import COUNT, EYES, Points
from eacps.faces.basic.loading import buffer, loading
from eacps.faces.download import MESH
from eacps.faces.protocol import Face, Pixels

SIDE = 192
"""The side of the model's input, in pixels."""

AROUND_BOX, AROUND_MESH = 1.6, 1.5
"""The side of the crop relative to the face, in the first pass and in later passes."""

LOOKS = 2
SURE = 12.0
"""The presence score is about 28 for an upright face and about 6 for one upside down."""

POINTS, PRESENCE = "conv2d_21", "conv2d_31"
"""The output layers for the points and the presence score."""


class FaceMesh:
    """Locates the points of a detected face in any orientation."""

    def __init__(self, weights: bytes) -> None:
        with loading(MESH):
            self._net = cv2.dnn.readNetFromTFLite(buffer(weights))

    def __call__(self, image: Pixels, face: Face) -> Points:
        """The points in pixels of the image, of shape 468 x 3 (right, down, away)."""
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
        """Correct the angle of faces that the detector mistakes for upright ones."""
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
        """Set the crop as the network's input; returns the rotation and scale to the crop."""
        scale = SIDE / side
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = np.hstack([turn, (SIDE / 2 - turn @ centre)[:, None]])
        self._net.setInput(cv2.dnn.blobFromImage(_crop(image, matrix, scale), 1 / 255))
        return turn


def _crop(image: Pixels, matrix: Points, scale: float) -> Pixels:
    """The crop at the model's input size; large faces are downsampled by averaging."""
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
