"""Keeps the name of this backend in Label Studio equal to the model version of a project's results:
Label Studio shows, sorts and samples only by the scores of the version that the project names."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.connections import backend_body
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.settings import Settings

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 600.0
"""How often a project is looked at that names another version, which somebody may have chosen."""


class _Attempts:
    """When each project was last looked at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: dict[tuple[str, int, str], float] = {}

    def is_due(self, url: str, project: int, version: str) -> bool:
        moment = time.monotonic()
        with self._lock:
            due = moment - self._at.get((url, project, version), float("-inf")) > AGAIN_SECONDS
            if due:
                self._at[url, project, version] = moment
            return due

    def clear(self) -> None:
        with self._lock:
            self._at.clear()


_attempts: Final = _Attempts()


def forget_attempts() -> None:
    """Look at all projects again."""
    _attempts.clear()


def show_version(
    client: LabelStudioClient, project: Mapping[str, Any], version: str, settings: Settings
) -> None:
    """Rename this backend's row in a project, if the project names another version. If that fails,
    only the column of scores is empty, so nothing else fails with it."""
    number = int(project["id"])
    if project.get("model_version") == version:
        return
    if not _attempts.is_due(client.url, number, version):
        return
    try:
        _rename(client, number, version, settings)
    except LabelStudioDownError as error:
        log.warning("project %d does not show the scores of %s yet: %s", number, version, error)
    except LabelStudioError as error:
        log.warning("project %d cannot show the scores of %s: %s", number, version, error)


def _rename(client: LabelStudioClient, project: int, version: str, settings: Settings) -> None:
    url = settings.resolved_public_url
    rows = client.list_rows("/api/ml", project=project)
    row = next((row for row in rows if str(row.get("url", "")).rstrip("/") == url), None)
    if row is None or row.get("title") == version:
        return
    body = backend_body(project, url, settings, version, row.get("extra_params"))
    # Label Studio checks the whole row again, and the project follows if it named the old title.
    client.call("PATCH", f"/api/ml/{row['id']}", json=body)
    log.info("project %d now shows the scores of %s", project, version)
