"""Finds out which face engine the settings select, without loading a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eacps.errors import FaceError
from eacps.faces.download import FETCH_HINT, missing_models
from eacps.faces.insightface.files import availability
from eacps.faces.packages import missing_packages_error
from eacps.settings import Settings

CONSENT: Final = (
    "Swap only faces of people who have agreed to it, and say of every result that it is "
    "synthetic. You are responsible for what you make."
)
"""Shown to everyone who can swap faces."""
_PACKAGES: Final = ("cv2", "onnxruntime")


AUTO: Final = "auto"
ORDER: Final = ("insightface", "basic")
"""The engines that `auto` tries."""


@dataclass(frozen=True)
class Readiness:
    """The engine to use (empty: none), and why other engines cannot be used."""

    engine: str
    problems: Mapping[str, FaceError | None]


def readiness(settings: Settings) -> Readiness:
    """Resolve EACPS_FACE_ENGINE by checking files, which takes about a millisecond.

    The code of a plug-in engine is not run; only its workers find out whether it loads.
    """
    asked = ORDER if settings.face_engine == AUTO else (settings.face_engine,)
    problems = {name: problem_of(name, settings) for name in asked}
    engine = next((name for name in asked if problems[name] is None), "")
    return Readiness(engine, problems)


def without_effect(settings: Settings) -> tuple[str, ...]:
    """A warning if the selected engine ignores EACPS_FACE_PROVIDER, or nothing."""
    if settings.face_provider != "cuda" or readiness(settings).engine != "basic":
        return ()
    return ("EACPS_FACE_PROVIDER=cuda has no effect: face engine basic runs on the CPU.",)


def problem_of(engine: str, settings: Settings) -> FaceError | None:
    """Why an engine cannot be used, as far as is known without loading it, or None."""
    checks = {"insightface": availability, "basic": basic_problem}
    return checks[engine](settings) if engine in checks else None


def basic_problem(settings: Settings) -> FaceError | None:
    """Why engine `basic` cannot be used, judging by its files, or None."""
    return missing_packages_error("basic", _PACKAGES) or _missing_file(
        settings.face_models.expanduser()
    )


def _missing_file(folder: Path) -> FaceError | None:
    missing = missing_models(folder)
    if not missing:
        return None
    return FaceError(
        f"Files of engine basic are missing in {folder}: {', '.join(missing)}.",
        hint=FETCH_HINT,
        code="model_missing",
    )
