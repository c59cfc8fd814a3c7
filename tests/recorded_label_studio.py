"""A small HTTP server with the part of Label Studio's API that delivery uses, which remembers all.

For what a real Label Studio cannot be made to do: be down at a chosen moment, have the task
numbers of a stored database, count how often something was written.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Reply = tuple[int, Any] | tuple[int, Any, Mapping[str, str]]
Fault = Callable[[str, str], Reply | None]
TOKEN = "0123456789abcdef0123456789abcdef01234567"
STAMP = "2026-10-01T12:00:00.000000Z"


def refusal(status: int, detail: str) -> Reply:
    """An error as Label Studio itself writes it."""
    body = {"id": "1f", "status_code": status, "version": "1.23.2", "detail": detail}
    return status, {**body, "exc_info": None}


class RecordedLabelStudio:
    """Tasks, uploads and predictions in memory; `served` are further files by path, and `fault`
    may answer in place of anything."""

    def __init__(self, port: int = 0) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.predictions: list[dict[str, Any]] = []
        self.deleted_predictions: list[dict[str, Any]] = []
        self.files: dict[int, tuple[str, bytes]] = {}
        self.served: dict[str, bytes] = {}
        self.token = TOKEN
        self.tokens: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.projects: dict[int, dict[str, Any]] = {}
        self.webhooks: list[dict[str, Any]] = []
        self.backends: list[dict[str, Any]] = []
        self.page_limit = 1000
        self.writes: list[tuple[str, str]] = []
        self.fault: Fault = lambda _method, _path: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> RecordedLabelStudio:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add_task(self, number: int, data: Mapping[str, Any], project: int = 1) -> dict[str, Any]:
        """A task as if it had been imported."""
        self.tasks[number] = {
            "id": number,
            "project": project,
            "data": dict(data),
            "created_at": STAMP,
            "updated_at": STAMP,
            "total_annotations": 0,
            "total_predictions": 0,
            "annotations": [],
        }
        return self.tasks[number]

    def predictions_of(self, task: int) -> list[dict[str, Any]]:
        """The predictions that a task has now."""
        return [row for row in self.predictions if row["task"] == task]

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> Reply:
        """One request's answer."""
        parts = urlsplit(target)
        self.asked.append((method, target))
        faulty = self.fault(method, parts.path)
        if faulty is not None:
            return faulty
        self.tokens.append(headers.get("Authorization", ""))
        if headers.get("Authorization") != f"Token {self.token}":
            return refusal(401, "Invalid token.")
        if method == "GET" and parts.path in self.served:
            return 200, self.served[parts.path]
        with self._lock:
            for pattern, view in self._views():
                found = re.fullmatch(pattern, f"{method} {parts.path}")
                if found:
                    numbers = [int(number) for number in found.groups()]
                    return view(*numbers, query=parse_qs(parts.query), headers=headers, body=body)
        return refusal(404, f"No {method} {parts.path} here.")

    def _views(self) -> list[tuple[str, Callable[..., Reply]]]:
        return [
            (r"GET /api/current-user/whoami/?", lambda **_: (200, {"email": "a@example.com"})),
            (r"GET /api/projects/", self._projects),
            (r"GET /api/projects/(\d+)/?", self._project),
            (r"GET /api/projects/(\d+)/tasks/", self._tasks),
            (r"GET /api/projects/(\d+)/export", self._export),
            (r"GET /api/tasks", self._listed),
            (r"GET /api/webhooks/", lambda **_: (200, self.webhooks)),
            (r"GET /api/ml", self._backends),
            (r"PATCH /api/ml/(\d+)", self._backend),
            (r"PATCH /api/tasks/(\d+)/", self._task),
            (r"POST /api/projects/(\d+)/import", self._upload),
            (r"GET /api/projects/(\d+)/file-uploads", self._uploads),
            (r"GET /api/predictions/", self._rows),
            (r"POST /api/predictions/", self._predict),
            (r"PATCH /api/predictions/(\d+)/", self._change),
            (r"DELETE /api/predictions/(\d+)/", self._delete),
        ]

    def _project(self, number: int, **_: Any) -> Reply:
        return 200, {"label_config": "<View/>", **self.projects.get(number, {}), "id": number}

    def _projects(self, *, query: Mapping[str, list[str]], **_: Any) -> Reply:
        fields = query["include"][0].split(",")
        rows = [
            {name: value for name, value in row.items() if name in fields}
            for row in _page(list(self.projects.values()), query, self.page_limit)
        ]
        return (200, {"count": len(self.projects), "results": rows}) if rows else refusal(404, "No")

    def _tasks(self, project: int, *, query: Mapping[str, list[str]], **_: Any) -> Reply:
        tasks = [task for task in self.tasks.values() if task["project"] == project]
        tasks.sort(key=lambda task: str(task["updated_at"]), reverse=True)
        rows = [
            {**task, "predictions": self.predictions_of(task["id"])}
            for task in _page(tasks, query, self.page_limit)
        ]
        return (200, rows) if rows else refusal(404, "Not found.")

    def _export(self, project: int, **_: Any) -> Reply:
        return 200, [task for task in self.tasks.values() if task["project"] == project]

    def _listed(self, *, query: Mapping[str, list[str]], **_: Any) -> Reply:
        """The Data Manager's listing of one task of a project."""
        [wanted] = json.loads(query["query"][0])["filters"]["items"]
        task = self.tasks.get(wanted["value"])
        found = task is not None and task["project"] == int(query["project"][0])
        return 200, {"total": int(found), "tasks": [task] if found else []}

    def _backends(self, *, query: Mapping[str, list[str]], **_: Any) -> Reply:
        project = int(query["project"][0])
        return 200, [row for row in self.backends if row["project"] == project]

    def _backend(self, number: int, *, body: bytes, **_: Any) -> Reply:
        [row] = [row for row in self.backends if row["id"] == number]
        row.update(json.loads(body))
        return 200, row

    def _task(self, number: int, *, body: bytes, **_: Any) -> Reply:
        task = self.tasks.get(number)
        if task is None:
            return refusal(404, "Not found.")
        changes = json.loads(body or b"{}")
        if changes:
            self.writes.append(("task", str(number)))
            task.update(changes)
        return 200, {**task, "predictions": self.predictions_of(number)}

    def _upload(self, _project: int, *, headers: Message, body: bytes, **_: Any) -> Reply:
        boundary = headers["Content-Type"].split("boundary=")[1].encode()
        numbers = []
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _blank, content = part.partition(b"\r\n\r\n")
            named = re.search(rb'filename="([^"]+)"', head)
            assert named is not None
            number = len(self.files) + 1
            self.files[number] = (named[1].decode(), content.removesuffix(b"\r\n"))
            self.writes.append(("upload", named[1].decode()))
            numbers.append(number)
        return 201, {"file_upload_ids": numbers}

    def _uploads(self, project: int, *, query: Mapping[str, list[str]], **_: Any) -> Reply:
        wanted = list(self.files) if "all" in query else json.loads(query["ids"][0])
        rows = [
            {"id": number, "file": f"upload/{project}/{number:08x}-{self.files[number][0]}"}
            for number in wanted
            if number in self.files
        ]
        return 200, rows

    def _rows(self, *, query: Mapping[str, list[str]], **_: Any) -> Reply:
        return 200, self.predictions_of(int(query["task"][0]))

    def _predict(self, *, body: bytes, **_: Any) -> Reply:
        number = 1 + max((row["id"] for row in self.predictions), default=0)
        row = {"id": number, **json.loads(body)}
        if row["task"] not in self.tasks:
            return refusal(404, "Not found.")
        self.predictions.append(row)
        self.writes.append(("prediction", str(row["task"])))
        return 201, row

    def _change(self, number: int, *, body: bytes, **_: Any) -> Reply:
        for row in self.predictions:
            if row["id"] == number:
                row.update(json.loads(body))
                self.writes.append(("prediction", str(row["task"])))
                return 200, row
        return refusal(404, "Not found.")

    def _delete(self, number: int, **_: Any) -> Reply:
        gone = [row for row in self.predictions if row["id"] == number]
        self.predictions = [row for row in self.predictions if row["id"] != number]
        self.deleted_predictions += gone
        return (204, None) if gone else refusal(404, "Not found.")


def _page(rows: list[Any], query: Mapping[str, list[str]], limit: int) -> list[Any]:
    size, number = min(limit, int(query["page_size"][0])), int(query.get("page", ["1"])[0])
    return rows[(number - 1) * size : number * size]


def _handler(owner: RecordedLabelStudio) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = owner.answer(self.command, self.path, self.headers, body)
            status, content, *more = reply
            raw = isinstance(content, bytes)
            sent = content if raw else b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "image/png" if raw else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in more[0].items() if more else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            """Silence: tests print what they need."""

    return Handler
