"""Which face engine the settings would use, found out from files alone: no model is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eacps.errors import FaceError
from eacps.faces.download import FETCH_HINT, missing_models
from eacps.faces.insightface.files import availability
from eacps.faces.packages import packages_missing
from eacps.settings import Settings

CONSENT: Final = (
    "Swap only faces of people who have agreed to it, and say of every result that it is "
    "synthetic. You answer for what you make."
)
"""What everybody is told who can swap faces."""
_PACKAGES: Final = ("cv2", "onnxruntime")


@dataclass(frozen=True)
class Readiness:
    """Which engine would be used (empty: none), and why each of them cannot be."""

    engine: str
    insightface: FaceError | None
    basic: FaceError | None


def readiness(settings: Settings) -> Readiness:
    """What EACPS_FACE_ENGINE comes to here; takes a millisecond."""
    problems = {"insightface": availability(settings), "basic": basic_is_off(settings)}
    wanted = tuple(problems) if settings.face_engine == "auto" else (settings.face_engine,)
    engine = next((name for name in wanted if problems[name] is None), "")
    return Readiness(engine, **problems)


def basic_is_off(settings: Settings) -> FaceError | None:
    """Why engine `basic` cannot be used, as far as a look at the disk tells."""
    return packages_missing("basic", _PACKAGES) or _missing_file(settings.face_models.expanduser())


def _missing_file(folder: Path) -> FaceError | None:
    missing = missing_models(folder)
    if not missing:
        return None
    return FaceError(
        f"Engine basic lacks {', '.join(missing)} in {folder}.",
        hint=FETCH_HINT,
        code="model_missing",
    )
