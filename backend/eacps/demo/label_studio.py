"""Starts and stops a Label Studio in its own folder."""

from __future__ import annotations

import mimetypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

USERNAME = "demo@example.com"
PASSWORD = "bear-studio-demo"  # noqa: S105 - the demo's own login, printed on the screen
START_LIMIT_SECONDS = 240


class LabelStudioError(RuntimeError):
    """Label Studio did not start, or refused a request."""


def free_port(preferred: int = 0) -> int:
    """The preferred port if it is free, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LabelStudioError("no free port on 127.0.0.1")


@dataclass
class LabelStudioServer:
    """A Label Studio process with its program, folder, port and first user."""

    program: Path
    folder: Path
    token: str
    port: int = 0
    host: str = "localhost"
    username: str = USERNAME
    password: str = PASSWORD
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL at which it listens."""
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """The log file of the process."""
        return self.folder / "label-studio.log"

    def start(self) -> None:
        """Start the process; `wait` waits until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port(8080)
        command = [
            str(self.program), "start", "--no-browser", "--port", str(self.port),
            "--internal-host", "127.0.0.1", "--data-dir", str(self.folder),
            "--username", self.username, "--password", self.password, "--user-token", self.token,
            "--enable-legacy-api-token", "--log-level", "WARNING",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=self._environment(), start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            # Without this, Label Studio refuses a backend on the same machine (SSRF protection).
            "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LATEST_VERSION_CHECK": "false",
            **self.environment,
        }

    def wait(self, still_wanted: Callable[[], None] = lambda: None) -> None:
        """Wait until it responds; raises LabelStudioError with the end of its log."""
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            still_wanted()
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.3)
        raise LabelStudioError(f"Label Studio did not start; the end of its log:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return "(nothing was printed)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, grace_seconds: float = 8.0) -> None:
        """Stop the process and its children."""
        self._end((signal.SIGTERM, signal.SIGKILL), grace_seconds)

    def kill(self) -> None:
        """Kill it immediately, like a power cut."""
        self._end((signal.SIGKILL,), 30.0)

    def _end(self, signs: Sequence[signal.Signals], grace_seconds: float) -> None:
        if self.process is None:
            return
        for sign in signs:
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                break
            try:
                self.process.wait(grace_seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        self.process = None

    def response(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Call the API as the first user, without checking the status."""
        headers = {"Authorization": f"Token {self.token}"}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **arguments)

    def api(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Call the API as the first user; raises LabelStudioError for an error status."""
        response = self.response(method, path, **arguments)
        if not response.ok:
            raise LabelStudioError(
                f"{method} {path} answered {response.status_code}: {response.text[:300]}"
            )
        return response

    def upload(self, project: int, name: str, content: bytes) -> str:
        """Upload a file without creating a task; returns its `/data/upload/...` path."""
        path = f"/api/projects/{project}/import?commit_to_project=false"
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        sent = self.api("POST", path, files={"file": (name, content, kind)}).json()
        number = sent["file_upload_ids"][0]
        return f"/data/{self.api('GET', f'/api/import/file-upload/{number}').json()['file']}"
