"""A real Label Studio server for tests: own data folder, free port, legacy token, no SSRF rule."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

EMAIL = "reviewer@example.com"
PASSWORD = "a-long-test-password"
TOKEN = "abababababababababababababababababababab"
START_TIMEOUT = 180.0
REPOSITORY = Path(__file__).resolve().parent.parent


def label_studio_command() -> str | None:
    """The Label Studio to test against, if there is one on this machine."""
    named = os.environ.get("EACPS_TEST_LABEL_STUDIO")
    own = REPOSITORY / ".venv-label-studio" / "bin" / "label-studio"
    if named:
        return named
    return str(own) if own.exists() else shutil.which("label-studio")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LabelStudioServer:
    """`with LabelStudioServer() as server:` starts it, and stops it and its folder at the end."""

    def __init__(self, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = TOKEN
        self._folder = Path(tempfile.mkdtemp(prefix="eacps-label-studio-"))
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LabelStudioServer:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start (again) on the same port and data; returns when it answers."""
        command = label_studio_command()
        if command is None:
            raise RuntimeError("No Label Studio found: set EACPS_TEST_LABEL_STUDIO to its command.")
        arguments = ["start", "--no-browser", "--init", "--agree-fix-sqlite", "--port"]
        arguments += [str(self.port), "--internal-host", "127.0.0.1", "--data-dir"]
        arguments += [str(self._folder), "--username", EMAIL, "--password", PASSWORD]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [command, *arguments, "--user-token", TOKEN],
                env=os.environ | self._defaults() | self._environment,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        self._wait_until_up()

    def stop(self) -> None:
        """Ask the server to end, and wait until it did."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        self._signal(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start with the same data."""
        self.stop()
        self.start()

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self._folder / "server.log").read_text(errors="replace")

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One API call as the first user; raises on an error status."""
        response = self.response(method, path, **arguments)
        if not response.ok:
            raise RuntimeError(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json() if response.content else None

    def response(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """One API call as the first user, whatever the status."""
        headers = {"Authorization": f"Token {TOKEN}"}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **arguments)

    def create_project(self, label_config: str, title: str = "Test", **fields: Any) -> int:
        """A new project's id."""
        body = {"title": title, "label_config": label_config, **fields}
        return int(self.call("POST", "/api/projects/", json=body)["id"])

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> list[int]:
        """Import tasks; returns their ids in order."""
        path = f"/api/projects/{project}/import?return_task_ids=true"
        return list(self.call("POST", path, json=tasks)["task_ids"])

    def upload(self, project: int, name: str, content: bytes) -> str:
        """Upload a file without making a task; returns its `/data/upload/...` path."""
        path = f"/api/projects/{project}/import?commit_to_project=false"
        reply = self.call("POST", path, files={"file": (name, content)})
        upload = self.call("GET", f"/api/import/file-upload/{reply['file_upload_ids'][0]}")
        return "/data/" + str(upload["file"])

    def task(self, task: int) -> dict[str, Any]:
        """A task as stored. PATCH with nothing, because GET would ask the ML backend first."""
        return dict(self.call("PATCH", f"/api/tasks/{task}/", json={}))

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """The predictions of a task."""
        return list(self.call("GET", f"/api/predictions/?task={task}"))

    def _defaults(self) -> dict[str, str]:
        return {
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LATEST_VERSION_CHECK": "false",
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        self._process.wait(timeout=30)
        self._process = None

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise RuntimeError(f"Label Studio ended at once:\n{self.log[-3000:]}")
            try:
                if requests.get(f"{self.url}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.3)
        raise RuntimeError(f"Label Studio did not start:\n{self.log[-3000:]}")
