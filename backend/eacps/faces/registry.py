"""Which engine the settings, the licence and the files allow."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from eacps.faces.insightface.files import availability
from eacps.faces.protocol import FaceEngine
from eacps.faces.readiness import basic_is_off
from eacps.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedEngine:
    """An engine, and what a card must say about the choice of it."""

    engine: FaceEngine
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The engine and its models, for cards and the log."""
        models, providers = self.engine.models, self.engine.providers
        return f"{self.engine.name} ({', '.join(models)} on {', '.join(providers)})"


def open_engine(settings: Settings, device: str) -> OpenedEngine:
    """The engine of EACPS_FACE_ENGINE; raises FaceError saying what is missing."""
    if settings.face_engine == "insightface":
        return _opened(_insightface(settings, device))
    if settings.face_engine == "basic":
        return _opened(_basic(settings))
    reason = availability(settings)
    if reason is None:
        return _opened(_insightface(settings, device))
    return _opened(_basic(settings), f"Engine basic was used. {reason.message}")


def _insightface(settings: Settings, device: str) -> FaceEngine:
    from eacps.faces.insightface.engine import InsightFaceEngine

    return InsightFaceEngine.open(settings, device)


def _basic(settings: Settings) -> FaceEngine:
    reason = basic_is_off(settings)
    if reason is not None:
        raise reason
    from eacps.faces.basic import BasicEngine

    return BasicEngine.open(settings.face_models.expanduser(), threads=max(1, settings.threads))


def _opened(engine: FaceEngine, *notes: str) -> OpenedEngine:
    opened = OpenedEngine(engine, (*notes, *engine.notes))
    log.info("faces: %s", opened.words)
    return opened
