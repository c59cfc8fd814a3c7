"""Writes into tasks what opens their panel."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from eacps.labelstudio.cards.contract import PANEL
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.panel.capability import (
    PanelKeys,
    is_capability,
    open_keys,
    scopes_of,
    wanted,
)
from eacps.labelstudio.tasks.origins import Origin
from eacps.labelstudio.tasks.regions import mapping
from eacps.settings import Settings

log = logging.getLogger(__name__)

_PAGE: Final = 100
Revoked = Callable[[Iterable[str]], Mapping[str, float]]
"""JobQueue.revoked."""


class Grants:
    """Gives tasks their capabilities."""

    def __init__(self, settings: Settings, client: LabelStudioClient | None) -> None:
        self._settings = settings
        self._client = client

    @cached_property
    def _keys(self) -> PanelKeys:
        return open_keys(self._settings)

    def added(self, row: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """New data of a task, with a capability if it needs one."""
        return {**data, **self._wanted(row, data)}

    def give_quietly(self, asked: Origin) -> None:
        """Write a capability into a task that has none, so that its panel shows its search from
        the beginning. A search never fails because of that."""
        client = self._client
        ours = client is not None and asked.label_studio == client.url
        if client is None or not ours or asked.task is None or self._settings.panel == "off":
            return
        try:
            row = client.find_task(asked.task)
            if row is not None and self._wanted(row, row["data"]):
                client.update_data(asked.task, self.added(row, row["data"]))
        except LabelStudioError as error:
            log.info("task %s gets its panel with its result: %s", asked.task, error)

    def renew(self, project: int, revoked: Revoked) -> Iterator[int]:
        """Write new capabilities into all tasks of a project; yields the tasks' numbers."""
        client = self._client
        assert client is not None
        # All of them first: tasks that change move to the first page.
        pages = client.pages(f"/api/projects/{project}/tasks/", _PAGE)
        for number in [int(row["id"]) for page in pages for row in page]:
            row = client.find_task(number)
            if row is None or not _may_replace(row):
                continue
            moments = revoked(scopes_of(client.url, project=project, task=number)).values()
            # Clocks differ, and both may happen within a millisecond.
            moment = max([time.time(), *(each + 0.01 for each in moments)])
            fresh = self._keys.issue(project, number, moment)
            client.update_data(number, {**row["data"], PANEL: fresh})
            yield number

    def _wanted(self, row: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, str]:
        if self._settings.panel == "off" or self._client is None:
            return {}
        return wanted(self._keys, data, int(row["project"]), int(row["id"]), time.time())


def needs_one(data: Any, settings: Settings) -> bool:
    """Whether data in a request look as if their task had no capability yet."""
    return settings.panel != "off" and mapping(data).get(PANEL) in (None, "")


def _may_replace(row: Mapping[str, Any]) -> bool:
    held = mapping(row.get("data")).get(PANEL)
    return held in (None, "") or is_capability(held)
