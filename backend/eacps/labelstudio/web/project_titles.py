"""The titles of Label Studio's projects, asked for in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping

from eacps.errors import EacpsError
from eacps.labelstudio.client import open_client
from eacps.labelstudio.tasks.regions import text
from eacps.settings import Settings

log = logging.getLogger(__name__)

KEEP_SECONDS = 300.0
MOST_AT_ONCE = 100
LONGEST = 80


class ProjectTitles:
    """The last known titles by project. Asking for them never waits for Label Studio."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[int, str] = {}
        self._asked: dict[int, float] = {}
        self._asking = False

    def of(self, projects: Collection[int]) -> Mapping[int, str]:
        """The known titles of these projects; those that are not known are asked for."""
        if not self._settings.label_studio_url:
            return {}
        with self._lock:
            due = [project for project in projects if self._is_due(project)][:MOST_AT_ONCE]
            begin = bool(due) and not self._asking
            self._asking |= begin
            if begin:
                self._asked.update(dict.fromkeys(due, time.monotonic()))
            known = {
                project: self._known[project] for project in projects if project in self._known
            }
        if begin:
            threading.Thread(target=self._ask, args=(due,), daemon=True).start()
        return known

    def _is_due(self, project: int) -> bool:
        asked = self._asked.get(project)
        return asked is None or time.monotonic() - asked > KEEP_SECONDS

    def _ask(self, projects: Collection[int]) -> None:
        found: dict[int, str] = {}
        try:
            rows = open_client(self._settings).list_rows(
                "/api/projects/",
                ids=",".join(map(str, projects)),
                include="id,title",
                page_size=len(projects),
            )
            wanted = {row.get("id"): text(row.get("title")) for row in rows}
            found = {number: wanted[number][:LONGEST] for number in projects if wanted.get(number)}
        except EacpsError as error:
            log.debug("the titles of projects are not known: %s", error)
        except Exception:
            log.exception("the titles of projects could not be read")
        finally:
            with self._lock:
                self._known.update(found)
                self._asking = False
