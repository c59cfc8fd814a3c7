"""The registry of face engines, and opening the one that the settings select."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Protocol

from eacps.faces.protocol import FaceEngine
from eacps.faces.readiness import AUTO, ORDER, problem_of
from eacps.plugins import FACE_ENGINES as GROUP
from eacps.plugins import Context, Registry, lacks, loaded, options_for
from eacps.recent import Recent
from eacps.settings import Settings

log = logging.getLogger(__name__)


class EngineClass(Protocol):
    """A class with `load(context)`, or one that is called with its options or without arguments."""


FACE_ENGINES: Final = Registry[EngineClass](
    "face engine",
    group=GROUP,
    setting="EACPS_FACE_ENGINE",
    built_ins={
        "insightface": "eacps.faces.insightface.engine:InsightFaceEngine",
        "basic": "eacps.faces.basic.engine:BasicEngine",
    },
    problem=lambda engine: lacks(engine, "detect", "described", "character", "patch", "offers"),
)


@dataclass(frozen=True)
class OpenedEngine:
    """An engine, with warnings about its selection for cards."""

    engine: FaceEngine
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """A description of the engine and its models, for cards and the log."""
        models, providers = self.engine.models, self.engine.providers
        return f"{self.engine.name} ({', '.join(models)} on {', '.join(providers)})"


def open_engine(settings: Settings, device: str) -> OpenedEngine:
    """Open the engine of EACPS_FACE_ENGINE; raises FaceError if something is missing."""
    if settings.face_engine != AUTO:
        return _opened(settings.face_engine, settings, device)
    first, last = ORDER
    reason = problem_of(first, settings)
    if reason is None:
        return _opened(first, settings, device)
    return _opened(last, settings, device, f"Used engine {last}: {reason.message}")


@dataclass(frozen=True)
class _Shared:
    settings: Settings
    opened: OpenedEngine


_shared = Recent[tuple[int, str], _Shared](2)


def shared_engine(settings: Settings, device: str) -> OpenedEngine:
    """The engine that swapping and judging share in this process, opened on first use."""
    # Keep the settings as well, so that no other object gets their id.
    shared = _shared.get_or_make(
        (id(settings), device), lambda: _Shared(settings, open_engine(settings, device))
    )
    return shared.opened


def _opened(name: str, settings: Settings, device: str, *notes: str) -> OpenedEngine:
    reason = problem_of(name, settings)
    if reason is not None:
        raise reason
    plugin = FACE_ENGINES.get(name)
    options = options_for(plugin, name, FACE_ENGINES.kind, settings)
    engine: FaceEngine = loaded(plugin, Context(settings, device, options))
    opened = OpenedEngine(engine, (*notes, *engine.notes))
    log.info("faces: %s", opened.words)
    return opened
