"""Which face engine the settings would use, found out from files alone: no model is opened."""

from __future__ import annotations

from collections.abc import Mapping
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


AUTO: Final = "auto"
ORDER: Final = ("insightface", "basic")
"""The engines that `auto` tries."""


@dataclass(frozen=True)
class Readiness:
    """Which engine would be used (empty: none), and why those that were asked about cannot be."""

    engine: str
    problems: Mapping[str, FaceError | None]


def readiness(settings: Settings) -> Readiness:
    """What EACPS_FACE_ENGINE comes to here, as far as files tell; takes a millisecond.

    Of an engine that is a plug-in only its workers know more: its code is not run for this.
    """
    asked = ORDER if settings.face_engine == AUTO else (settings.face_engine,)
    problems = {name: problem_of(name, settings) for name in asked}
    engine = next((name for name in asked if problems[name] is None), "")
    return Readiness(engine, problems)


def problem_of(engine: str, settings: Settings) -> FaceError | None:
    """Why an engine cannot be used, if that can be told without loading it."""
    checks = {"insightface": availability, "basic": basic_is_off}
    return checks[engine](settings) if engine in checks else None


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
