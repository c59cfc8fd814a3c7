"""The engine `basic`: finds, tells apart and swaps faces on the CPU with free weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np

from eacps.errors import FaceError
from eacps.faces.basic.detector import Detector
from eacps.faces.basic.landmarks import Points, five_points, yaw_degrees
from eacps.faces.basic.mesh import FaceMesh
from eacps.faces.basic.portrait import Portrait, portrait
from eacps.faces.basic.recogniser import SAME_PERSON, Recogniser
from eacps.faces.basic.swap import swapped
from eacps.faces.download import DETECTOR, MESH, MODELS, RECOGNISER, checked_model
from eacps.faces.protocol import Character, Face, Patch, Pixels
from eacps.plugins import Context

if TYPE_CHECKING:
    from eacps.domain import Swap

MOST_YAW = 25.0
"""Characters turned further than this lack half of the face that the swap needs."""

LEAST_GAIN = 8.0
"""A mirrored character is taken where it is nearer to the target's turn by so many degrees."""

OPENCV = "OpenCV (CPU)"
OPENCV_ERRORS = 2


@dataclass(frozen=True, eq=False)
class PreparedCharacter(Character):
    """A character with the cut-outs that every swap of it needs: as it is, and mirrored."""

    portraits: tuple[Portrait, ...] = ()


class BasicEngine:
    """YuNet, face mesh, SFace and a warp. May be shared by threads, which take turns."""

    name = "basic"
    notes: tuple[str, ...] = ()
    same_person = SAME_PERSON

    def __init__(self, detector: Detector, mesh: FaceMesh, recogniser: Recogniser) -> None:
        self._detector, self._mesh, self._recogniser = detector, mesh, recogniser
        # OpenCV's networks keep the input they were last given.
        self._lock = Lock()

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> BasicEngine:
        """The engine with the weights in a folder; `threads` holds for all of OpenCV."""
        cv2.setNumThreads(threads)
        # OpenCV 5 warns at every load that its new engine cannot choose a device: it needs none.
        cv2.setLogLevel(OPENCV_ERRORS)
        return cls(
            Detector(checked_model(folder, DETECTOR)),
            FaceMesh(checked_model(folder, MESH)),
            Recogniser(checked_model(folder, RECOGNISER), threads),
        )

    @classmethod
    def load(cls, context: Context) -> BasicEngine:
        """The engine with the weights of EACPS_FACE_MODELS."""
        settings = context.settings
        return cls.open(settings.face_models.expanduser(), threads=max(1, settings.threads))

    @property
    def models(self) -> tuple[str, ...]:
        """The weights in use, by file name."""
        return tuple(model.name for model in MODELS)

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the models really run."""
        return (OPENCV, *self._recogniser.providers)

    def offers(self, recipe: Swap) -> bool:
        """Any blend and shape; pixel boost and restorer are not to be had here."""
        plain = type(recipe)()
        return (recipe.boost, recipe.restore) == (plain.boost, plain.restore)

    def detect(self, image: Pixels) -> Sequence[Face]:
        """The faces of an image, the largest first."""
        with self._lock:
            return self._detector(image)

    def described(self, image: Pixels, face: Face) -> Face:
        """The face with mesh, yaw and embedding; its points are the mesh's, which are surer."""
        with self._lock:
            mesh = self._mesh(image, face)
            points = five_points(mesh)
            embedding = self._recogniser(image, points)
        return replace(
            face,
            points=points,
            mesh=mesh.astype(np.float32),
            yaw=yaw_degrees(mesh),
            embedding=embedding,
        )

    def character(self, picture: Pixels, face: Face, name: str) -> PreparedCharacter:
        """A character that looks into the camera, prepared to be swapped in."""
        if face.mesh is None or face.yaw is None:
            face = self.described(picture, face)
        yaw = face.yaw or 0.0
        if abs(yaw) > MOST_YAW:
            raise FaceError(
                f"The face of {name} is turned away by {abs(yaw):.0f} degrees; engine basic "
                f"needs one that is turned by {MOST_YAW:.0f} at most.",
                hint="Use a picture that shows the face from the front, or engine insightface.",
                code="profile_face",
            )
        mirrored = np.ascontiguousarray(picture[:, ::-1])
        looks = (
            portrait(picture, _mesh(face)),
            portrait(mirrored, self._mirrored_mesh(picture, mirrored, face)),
        )
        return PreparedCharacter(picture, face, name, looks)

    def patch(self, scene: Pixels, target: Face, character: Character, recipe: Swap) -> Patch:
        """The character's face in the target's place, pose and light."""
        if not isinstance(character, PreparedCharacter):
            character = self.character(character.picture, character.face, character.name)
        if target.mesh is None:
            target = self.described(scene, target)
        mesh = _mesh(target)
        return swapped(
            scene, mesh, _best_look(character.portraits, yaw_degrees(mesh)), recipe.shape
        )

    def _mirrored_mesh(self, picture: Pixels, mirrored: Pixels, face: Face) -> Points:
        width = picture.shape[1]
        box = face.box.copy()
        box[[0, 2]] = width - face.box[[2, 0]]
        points = face.points[[1, 0, 2, 4, 3]].copy()
        points[:, 0] = width - points[:, 0]
        with self._lock:
            return self._mesh(mirrored, replace(face, box=box, points=points))


def _mesh(face: Face) -> Points:
    assert face.mesh is not None
    return face.mesh.astype(np.float64)


def _best_look(portraits: Sequence[Portrait], yaw: float) -> Portrait:
    """The character as it is, unless its mirror image looks much more like the target does."""
    plain, mirrored = portraits
    turn, other = (abs(yaw - yaw_degrees(look.points)) for look in (plain, mirrored))
    return mirrored if other + LEAST_GAIN < turn else plain
