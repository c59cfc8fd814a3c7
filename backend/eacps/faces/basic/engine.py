"""Engine `basic`: detects, compares and swaps faces on the CPU with free weights."""

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

MAX_YAW = 25.0
"""Characters turned further lack half of the face."""

MIN_GAIN = 8.0
"""A mirrored character is used if its yaw is closer to the target's by this many degrees."""

OPENCV = "OpenCV (CPU)"
OPENCV_ERRORS = 2


@dataclass(frozen=True, eq=False)
class PreparedCharacter(Character):
    """A character with its original and its mirrored portrait, which all swaps reuse."""

    portraits: tuple[Portrait, ...] = ()


class BasicEngine:
    """YuNet, face mesh, SFace and a warp. Thread-safe, but serialised by a lock."""

    name = "basic"
    notes: tuple[str, ...] = ()
    same_person = SAME_PERSON

    def __init__(self, detector: Detector, mesh: FaceMesh, recogniser: Recogniser) -> None:
        self._detector, self._mesh, self._recogniser = detector, mesh, recogniser
        # OpenCV's networks are stateful.
        self._lock = Lock()

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> BasicEngine:
        """Load the weights from a folder; `threads` applies to OpenCV in the whole process."""
        cv2.setNumThreads(threads)
        # OpenCV 5 warns on every load that its new engine cannot select a device.
        cv2.setLogLevel(OPENCV_ERRORS)
        return cls(
            Detector(checked_model(folder, DETECTOR)),
            FaceMesh(checked_model(folder, MESH)),
            Recogniser(checked_model(folder, RECOGNISER), threads),
        )

    @classmethod
    def load(cls, context: Context) -> BasicEngine:
        """Load the weights from EACPS_FACE_MODELS."""
        settings = context.settings
        return cls.open(settings.face_models.expanduser(), threads=max(1, settings.threads))

    @property
    def models(self) -> tuple[str, ...]:
        """The file names of the weights."""
        return tuple(model.name for model in MODELS)

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the models actually run."""
        return (OPENCV, *self._recogniser.providers)

    def offers(self, recipe: Swap) -> bool:
        """Support any blend and shape, but neither pixel boost nor a restorer."""
        plain = type(recipe)()
        return (recipe.boost, recipe.restore) == (plain.boost, plain.restore)

    def detect(self, image: Pixels) -> Sequence[Face]:
        """Detect the faces of an image, largest first."""
        with self._lock:
            return self._detector(image)

    def described(self, image: Pixels, face: Face) -> Face:
        """Add mesh, yaw and embedding; the more accurate points of the mesh replace the points."""
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
        """Prepare a character; raises FaceError if the face is turned away."""
        if face.mesh is None or face.yaw is None:
            face = self.described(picture, face)
        yaw = face.yaw or 0.0
        if abs(yaw) > MAX_YAW:
            raise FaceError(
                f"The face of {name} is turned away by {abs(yaw):.0f} degrees; engine basic "
                f"supports at most {MAX_YAW:.0f}.",
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
        """Render the character's face in the place, pose and light of the target."""
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
    """The original portrait, unless the yaw of the mirrored one is much closer to the target's."""
    plain, mirrored = portraits
    turn, other = (abs(yaw - yaw_degrees(look.points)) for look in (plain, mirrored))
    return mirrored if other + MIN_GAIN < turn else plain
