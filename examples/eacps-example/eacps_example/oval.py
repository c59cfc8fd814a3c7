"""A face engine: finds faces with OpenCV's cascade and lays the character's over them, as an oval.

Crude, but whole: it needs no model beyond those that come with OpenCV.
"""

import cv2
import numpy as np

from eacps import Character, Face, Patch, Swap

POINTS = np.array([[0.31, 0.39], [0.69, 0.39], [0.5, 0.58], [0.35, 0.76], [0.65, 0.76]])
"""Eyes, nose and the mouth's corners in the box of a frontal face."""
SIDE = 32


class Oval:
    """Frontal faces only."""

    name = "oval"
    models = ("haarcascade_frontalface_default.xml",)
    providers = ("OpenCV (CPU)",)
    notes = ("Engine oval only shows how an engine is made.",)
    same_person = 0.8

    def __init__(self):
        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + self.models[0])

    def offers(self, recipe):
        plain = Swap(assignment=recipe.assignment, blend=recipe.blend)
        return recipe == plain  # one way to swap; only where, and how strongly, may differ

    def detect(self, image):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found = self._cascade.detectMultiScale(grey, 1.1, 8, minSize=(40, 40))
        faces = [self._face(*map(float, box)) for box in found]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    @staticmethod
    def _face(x, y, width, height):
        box = np.array([x, y, x + width, y + height], np.float32)
        points = (np.array([x, y]) + POINTS * (width, height)).astype(np.float32)
        return Face(box, points, score=1.0)

    def described(self, image, face):
        small = cv2.resize(cv2.cvtColor(crop(image, face), cv2.COLOR_RGB2GRAY), (SIDE, SIDE))
        vector = small.astype(np.float32).ravel()
        vector -= vector.mean()
        embedding = vector / max(float(np.linalg.norm(vector)), 1e-6)
        return Face(face.box, face.points, face.score, embedding)

    def character(self, picture, face, name):
        return Character(picture, face, name)

    def patch(self, scene, target, character, recipe):
        left, top, right, bottom = edges(scene, target)
        width, height = right - left, bottom - top
        pixels = cv2.resize(crop(character.picture, character.face), (width, height))
        alpha = np.zeros((height, width), np.float32)
        axes = (width * 2 // 5, height * 9 // 20)
        cv2.ellipse(alpha, (width // 2, height // 2), axes, 0, 0, 360, 1.0, -1)
        soft = max(1, width // 12) * 2 + 1
        return Patch(left, top, pixels, cv2.GaussianBlur(alpha, (soft, soft), 0))


def edges(image, face):
    """The face's box, within the image."""
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(edge)) for edge in face.box)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def crop(image, face):
    """The pixels of the face's box."""
    left, top, right, bottom = edges(image, face)
    return image[top:bottom, left:right]
