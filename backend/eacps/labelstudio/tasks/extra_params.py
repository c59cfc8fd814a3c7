"""The extra parameters of projects' ML backends, as they are remembered."""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

from eacps.settings import Settings

log = logging.getLogger(__name__)


class Memory(Protocol):
    """What remembers them: the job queue."""

    def extra_params(self, project: str) -> str:
        """A project's extra parameters as JSON; an empty string without any."""
        ...


class ExtraParams:
    """Asks for each project once: make one for each request."""

    def __init__(self, settings: Settings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._known: dict[int, Any] = {}

    def of(self, project: int | None) -> Any:
        """A project's extra parameters, or None."""
        if project is None or not self._settings.label_studio_url:
            return None
        if project not in self._known:
            found = self._memory.extra_params(name_of(project, self._settings))
            self._known[project] = json.loads(found) if found else None
        return self._known[project]


def name_of(project: int, settings: Settings) -> str:
    """The name under which a project is remembered."""
    return f"{settings.label_studio_url} {project}"
