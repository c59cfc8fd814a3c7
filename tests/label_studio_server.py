"""The demo's Label Studio for tests: own data folder, free port, gone at the end."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from eacps.demo import label_studio
from eacps.demo.label_studio import free_port

__all__ = ["EMAIL", "PASSWORD", "LabelStudioServer", "free_port", "label_studio_command"]

EMAIL = "reviewer@example.com"
PASSWORD = "a-long-test-password"
TOKEN = "abababababababababababababababababababab"
REPOSITORY = Path(__file__).resolve().parent.parent


def label_studio_command() -> str | None:
    """The Label Studio to test against, if there is one on this machine."""
    named = os.environ.get("EACPS_TEST_LABEL_STUDIO")
    own = REPOSITORY / ".venv-label-studio" / "bin" / "label-studio"
    if named:
        return named
    return str(own) if own.exists() else shutil.which("label-studio")


class LabelStudioServer(label_studio.LabelStudioServer):
    """`with LabelStudioServer() as server:` starts it, and stops it and its folder at the end."""

    def __init__(self, **environment: str) -> None:
        command = label_studio_command()
        if command is None:
            raise RuntimeError("No Label Studio found: set EACPS_TEST_LABEL_STUDIO to its command.")
        super().__init__(
            program=Path(command).absolute(),
            folder=Path(tempfile.mkdtemp(prefix="eacps-label-studio-")),
            token=TOKEN,
            port=free_port(),
            host="127.0.0.1",
            username=EMAIL,
            password=PASSWORD,
            environment={
                "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
                # Off by default: predictions are then checked against the label config.
                "fflag_feat_utc_210_prediction_validation_15082025": "true",
                **environment,
            },
        )

    def __enter__(self) -> LabelStudioServer:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start (again) on the same port and data; returns when it answers."""
        super().start()
        self.wait()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """What one API call answers; raises on an error status."""
        response = self.api(method, path, **arguments)
        return response.json() if response.content else None

    def create_project(self, label_config: str, title: str = "Test", **fields: Any) -> int:
        """A new project's id."""
        body = {"title": title, "label_config": label_config, **fields}
        return int(self.call("POST", "/api/projects/", json=body)["id"])

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> list[int]:
        """Import tasks; returns their ids in order."""
        path = f"/api/projects/{project}/import?return_task_ids=true"
        return list(self.call("POST", path, json=tasks)["task_ids"])

    def data(self, task: int) -> dict[str, Any]:
        """A task's data, read from the database. Every way to read it by the API writes as well:
        to wait by it would now and then undo what the backend has just delivered."""
        database = sqlite3.connect(f"file:{self.folder}/label_studio.sqlite3?mode=ro", uri=True)
        with closing(database):
            (row,) = database.execute("SELECT data FROM task WHERE id = ?", (task,)).fetchall()
        return dict(json.loads(row[0]))

    def task(self, task: int) -> dict[str, Any]:
        """A task as stored. PATCH with nothing, because GET would ask the ML backend first."""
        return dict(self.call("PATCH", f"/api/tasks/{task}/", json={}))

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """The predictions of a task."""
        return list(self.call("GET", f"/api/predictions/?task={task}"))
