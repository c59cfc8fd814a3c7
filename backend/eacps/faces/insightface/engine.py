"""Engine `insightface`: the library's FaceAnalysis and INSwapper with the user's models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from eacps.domain import DEFAULT_SHAPE, Swap
from eacps.errors import FaceError
from eacps.faces.insightface.crop_blend import matched, soft_mask
from eacps.faces.insightface.crop_occlusion import occlusion
from eacps.faces.insightface.crops import (
    SIDE,
    alignment,
    bounds_of,
    cut,
    paste_back,
    resampled,
    scale_of,
)
from eacps.faces.insightface.face_search import FaceSearch
from eacps.faces.insightface.files import ModelFiles, availability, inspect_pack, model_files
from eacps.faces.insightface.pixel_boost import BoostedSwapper
from eacps.faces.insightface.restorer import SIDE as RESTORED_SIDE
from eacps.faces.insightface.restorer import Restorer
from eacps.faces.onnx_sessions import (
    Placement,
    checked,
    corrupt,
    incompatible,
    open_session,
    options,
    placement,
    quiet,
    running_on,
    threads_of,
)
from eacps.faces.protocol import Character, Face, Field, Patch, Pixels
from eacps.plugins import Context
from eacps.settings import Settings

SAME_PERSON: Final = 0.4
LARGEST_BOOST: Final = 1024
EMBEDDING: Final = 512
_NOSE_PROTRUDES: Final = 0.55
"""How far the tip of the nose protrudes, relative to the distance between the eyes."""
_WHOLE_PACK: Final = "Unpack a whole pack there, such as buffalo_l (EACPS_INSIGHTFACE_PACK)."
_PUBLISHED: Final = "Name an inswapper_128 file with EACPS_INSWAPPER."


class InsightFaceEngine:
    """Detects, describes and swaps faces; created by `load`."""

    name = "insightface"
    same_person = SAME_PERSON

    def __init__(
        self, analysis: Any, swapper: Any, restorer: Restorer | None, notes: tuple[str, ...]
    ) -> None:
        self._recogniser = analysis.models["recognition"]
        self._search = FaceSearch(analysis.det_model)
        self._swapper = BoostedSwapper(swapper)
        self._restorer = restorer
        parts = [analysis.det_model, self._recogniser, swapper]
        self._sessions = _sessions(analysis, swapper, restorer)
        paths = [Path(part.model_file) for part in parts]
        self.models = tuple(path.name for path in [*paths, *([restorer.path] if restorer else [])])
        self.notes = notes

    @classmethod
    def load(cls, context: Context) -> InsightFaceEngine:
        """Load the engine on a worker's device; raises FaceError if files are missing or wrong."""
        settings, device = context.settings, context.device
        problem = availability(settings)
        if problem is not None:
            raise problem
        files = model_files(settings)
        where = placement(settings, device)
        _share_threads(settings)
        inspect_pack(files.pack)
        analysis = _analysis(files, settings, where)
        swapper = load_swapper(files, settings, where)
        restorer = Restorer(files.restorer, settings, where) if files.restorer else None
        note = checked(where, _sessions(analysis, swapper, restorer))
        return cls(analysis, swapper, restorer, (note,) if note else ())

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the models actually run."""
        return running_on(self._sessions)

    def offers(self, recipe: Swap) -> bool:
        """Support every multiple of 128 px up to 1024, and restoring if there is a restorer."""
        return (
            recipe.boost % SIDE == 0
            and SIDE <= recipe.boost <= LARGEST_BOOST
            and (self._restorer is not None or not recipe.restore)
            and recipe.shape == DEFAULT_SHAPE
        )

    def detect(self, image: Pixels) -> Sequence[Face]:
        """Detect the faces of an image, largest first."""
        return self._search.faces(image)

    def described(self, image: Pixels, face: Face) -> Face:
        """Add the normalised embedding and yaw."""
        return replace(face, embedding=self._embedding(image, face), yaw=yaw_of(face.points))

    def character(self, picture: Pixels, face: Face, name: str) -> Character:
        """Make a character; inswapper supports every face that can be described."""
        if face.embedding is None:
            face = self.described(picture, face)
        return Character(picture, face, name)

    def patch(self, scene: Pixels, target: Face, character: Character, recipe: Swap) -> Patch:
        """Render the character's face with the pose, light and expression of the target."""
        if character.face.embedding is None:
            character = self.character(character.picture, character.face, character.name)
        side = recipe.boost
        before = cut(scene, alignment(target.points, side), side)
        after = self._swapper.swapped(before, _present(character.face.embedding))
        hidden = occlusion(before, after)
        restorer = self._restorer if recipe.restore else None
        if restorer is not None and side < RESTORED_SIDE:
            after, hidden = _enlarged(after, RESTORED_SIDE), _enlarged(hidden, RESTORED_SIDE)
            side = RESTORED_SIDE
            before = cut(scene, alignment(target.points, side), side)
        matrix = alignment(target.points, side)
        alpha = soft_mask(side, scale_of(matrix)) * (1 - hidden)
        if restorer is not None:
            after = restorer.restored(scene, after, matrix, alpha)
        after = matched(after, before, alpha)
        bounds = bounds_of(matrix, side, scene)
        pixels, shown = (paste_back(one, matrix, bounds) for one in (after, alpha))
        return Patch(bounds.left, bounds.top, pixels, shown.clip(0, 1))

    def _embedding(self, image: Pixels, face: Face) -> Field:
        from insightface.utils import face_align

        side = self._recogniser.input_size[0]
        alignment(face.points, SIDE)
        crop = face_align.norm_crop(image, face.points, side)
        raw = self._recogniser.get_feat(np.ascontiguousarray(crop[..., ::-1])).ravel()
        length = float(np.linalg.norm(raw))
        if not np.isfinite(length) or length == 0:
            raise FaceError("The recogniser failed on a face.", hint="Use another image.")
        return np.asarray(raw / length, dtype=np.float32)


def yaw_of(points: Field) -> float:
    """The yaw of a face in degrees, positive towards the right of the image.

    Estimated from the offset of the nose from the centre of eyes and mouth along the eyes' line.
    """
    left_eye, right_eye, nose, *mouth = np.asarray(points, dtype=np.float64)
    eyes = right_eye - left_eye
    distance = float(eyes @ eyes)
    if distance == 0:
        return 90.0
    middle = ((left_eye + right_eye) / 2 + (mouth[0] + mouth[1]) / 2) / 2
    off = float((nose - middle) @ eyes) / distance
    return float(np.degrees(np.arctan2(off, _NOSE_PROTRUDES)))


def _present(embedding: Field | None) -> Field:
    if embedding is None:
        raise FaceError("The character's face was not described.", hint="Describe it first.")
    return embedding


def _enlarged(crop: Any, side: int) -> Any:
    factor = side / len(crop)
    return resampled(crop, np.array([[factor, 0.0, 0.0], [0.0, factor, 0.0]]), (side, side))


def _share_threads(settings: Settings) -> None:
    threads = threads_of(settings)
    if threads:
        import cv2

        cv2.setNumThreads(threads)


def _sessions(analysis: Any, swapper: Any, restorer: Restorer | None) -> list[Any]:
    parts = [analysis.det_model, analysis.models["recognition"], swapper, restorer]
    return [part.session for part in parts if part is not None]


def _analysis(files: ModelFiles, settings: Settings, where: Placement) -> Any:
    """Load FaceAnalysis, and test its detector and recogniser on a grey image."""
    from insightface.app import FaceAnalysis

    try:
        # Pass an existing folder, because the library would download a name.
        with quiet():
            analysis = FaceAnalysis(
                str(files.pack.resolve()),
                allowed_modules=["detection", "recognition"],
                providers=list(where.providers),
                sess_options=options(settings),
                static_shape_sessions=False,
            )
        # A negative id would move the models to the CPU.
        analysis.prepare(ctx_id=0, det_size=(640, 640))
    except Exception as error:
        raise corrupt(files.pack, error) from None
    if "recognition" not in analysis.models:
        raise incompatible(files.pack, "none of its files is a recogniser", _WHOLE_PACK)
    _test_detector(analysis.det_model)
    _test_recogniser(analysis.models["recognition"])
    return analysis


def _test_detector(detector: Any) -> None:
    path = Path(detector.model_file)
    try:
        _, points = detector.detect(np.full((64, 64, 3), 128, dtype=np.uint8))
    except Exception as error:
        raise incompatible(path, f"a trial run failed ({error})", _WHOLE_PACK) from None
    if points is None:
        raise incompatible(path, "it finds boxes but no eyes, nose and mouth", _WHOLE_PACK)


def _test_recogniser(recogniser: Any) -> None:
    path = Path(recogniser.model_file)
    side = recogniser.input_size[0]
    try:
        vector = recogniser.get_feat(np.full((side, side, 3), 128, dtype=np.uint8))
    except Exception as error:
        raise incompatible(path, f"a trial run failed ({error})", _WHOLE_PACK) from None
    if vector.size != EMBEDDING:
        problem = f"its embeddings have {vector.size} numbers, but inswapper needs {EMBEDDING}"
        raise incompatible(path, problem, _WHOLE_PACK)


def load_swapper(files: ModelFiles, settings: Settings, where: Placement) -> Any:
    """Load INSwapper and test it on a grey image; raises FaceError."""
    from insightface.model_zoo.inswapper import INSwapper

    path = files.swapper
    session = open_session(path, settings, where)
    shapes = [list(one.shape) for one in (*session.get_inputs(), *session.get_outputs())]
    image = [3, SIDE, SIDE]
    if [shape[1:] for shape in shapes] != [image, [EMBEDDING], image]:
        seen = ", ".join(map(str, shapes))
        raise incompatible(path, f"its shapes {seen} are not those of inswapper", _PUBLISHED)
    try:
        with quiet():
            swapper = INSwapper(model_file=str(path), session=session)
    except Exception as error:
        raise incompatible(path, f"INSwapper cannot read it ({error})", _PUBLISHED) from None
    if swapper.emap.shape != (EMBEDDING, EMBEDDING):
        problem = f"its last matrix is {swapper.emap.shape}, not {EMBEDDING} x {EMBEDDING}"
        raise incompatible(path, problem, _PUBLISHED)
    _test_swapper(swapper, path)
    return swapper


def _test_swapper(swapper: Any, path: Path) -> None:
    try:
        BoostedSwapper(swapper).swapped(
            np.full((SIDE, SIDE, 3), 128, dtype=np.uint8),
            np.full(EMBEDDING, EMBEDDING**-0.5, dtype=np.float32),
        )
    except Exception as error:
        raise incompatible(path, f"a trial run failed ({error})", _PUBLISHED) from None
