"""A Label Studio that is slow, absent or wrong for a while, and remembers all that was written."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from http.server import ThreadingHTTPServer
from typing import Any

from tests.recorded_label_studio import RecordedLabelStudio, Reply

HTML = b"<html><body>Back soon.</body></html>"
PROJECT = 1
LABEL_CONFIG = "<View/>"
ANSWERS: Mapping[str, Reply] = {
    "500": (500, HTML),
    "503": (503, HTML, {"Retry-After": "1"}),
    "429": (429, b"", {"Retry-After": "1"}),
    "401": (401, {"detail": "Invalid token.", "status_code": 401, "version": "1.23.2"}),
    "html": (200, HTML),
    "404": (404, HTML),
    "redirect": (302, b"", {"Location": "/login"}),
    "half": (200, b'{"id": 1, "data": {"im'),
}
WAYS = (*ANSWERS, "slow", "closed", "answers lost")
SLOW_SECONDS = 4.0
_WRITES = ("POST", "PATCH", "DELETE")


class FaultyLabelStudio(RecordedLabelStudio):
    """`way` is how it fails now; empty when it is well."""

    def __init__(self) -> None:
        super().__init__()
        self.way = ""
        self._lost: set[tuple[str, str]] = set()
        self._server.server_close()
        self._server = _Server(("127.0.0.1", self.port), self._server.RequestHandlerClass)

    def connect(self, backend: str) -> None:
        """A project that announces its tasks to the backend."""
        self.projects[PROJECT] = {"id": PROJECT, "label_config": LABEL_CONFIG}
        hook = {"id": 1, "project": PROJECT, "url": f"{backend}/webhook", "is_active": True}
        self.webhooks = [{**hook, "send_for_all_actions": True, "created_at": moment()}]

    def import_task(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A new task, as its webhook describes it."""
        with self._lock:
            task = self.add_task(len(self.tasks) + 1, data, PROJECT)
            task |= {"created_at": moment(), "updated_at": moment()}
            return {name: value for name, value in task.items() if name != "annotations"}

    def fail(self, way: str) -> None:
        """From now on, in this way; an empty one ends it."""
        if self.way == "closed" and way != "closed":
            self._open()
        if way == "closed" and self.way != "closed":
            self._server.shutdown()
            self._server.server_close()
        self._lost.clear()
        self.way = way

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> Reply:
        """As Label Studio, or as it fails now."""
        way = self.way
        if way in ANSWERS:
            return ANSWERS[way]
        if way == "closed":
            raise ConnectionAbortedError
        if way == "slow":
            time.sleep(SLOW_SECONDS)
        reply = super().answer(method, target, headers, body)
        # Once for each, so that nobody has to give up.
        if way == "answers lost" and method in _WRITES and (method, target) not in self._lost:
            self._lost.add((method, target))
            raise ConnectionAbortedError
        return reply

    def _open(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self._server.RequestHandlerClass)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


class _Server(ThreadingHTTPServer):
    """Says nothing about connections that are cut, which is what it is for."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def moment() -> str:
    """Now, as Label Studio writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
