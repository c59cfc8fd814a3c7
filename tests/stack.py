"""The whole backend as users run it: `eacps serve` in its own folder and on a free port."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import requests
from PIL.Image import Image

from eacps.demo.tasks import demo_tasks
from eacps.settings import FACE_MODELS
from tests import patience
from tests.label_studio_server import LabelStudioServer, free_port
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]


class Backend:
    """Web, orchestrator and one CPU worker under their supervisor."""

    def __init__(
        self, server: LabelStudioServer | None = None, python: str = "", **environment: str
    ) -> None:
        self._python = python or sys.executable
        self.folder = Path(tempfile.mkdtemp(prefix="eacps-backend-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_ST"))}
        self.environment = {
            **kept,
            "PYTHONPATH": str(ROOT / "backend"),
            "HF_HUB_OFFLINE": "1",
            "EACPS_DATA_DIR": str(self.folder / "data"),
            "EACPS_PORT": str(self.port),
            "EACPS_DEVICES": "cpu",
            "EACPS_THREADS": "1",
            # Eight cards, all finished: the tests count on them.
            "EACPS_STRATEGY": "eacps",
            "EACPS_RETRY_FAILED_AFTER_SECONDS": "0",
            "EACPS_FACE_ENGINE": "basic",
            "EACPS_FACE_MODELS": str(FACE_MODELS),
            **environment,
        }
        if server is not None:
            self.environment["LABEL_STUDIO_URL"] = server.url
            self.environment["LABEL_STUDIO_API_KEY"] = server.token

    def __enter__(self) -> Backend:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait_for_workers: bool = True) -> None:
        """Start (again) on the same port and data; returns when it is ready for work."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "eacps", "serve"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait_for_workers:
            wait_until(lambda: len(self.status()["workers"]) >= 2, self.log)

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
        self._process = None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What the processes wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def process(self, role: str) -> psutil.Process:
        """The process of one role: `web`, `orchestrator` or `worker`."""
        marks = {"web": "gunicorn", "orchestrator": "--orchestrator", "worker": "--slot"}
        for child in psutil.Process(self.pid).children(recursive=True):
            if marks[role] in " ".join(child.cmdline()):
                return child
        raise AssertionError(f"no {role} process\n{self.log()[-2000:]}")

    def tree(self) -> list[psutil.Process]:
        """The supervisor and all that it started."""
        supervisor = psutil.Process(self.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def kill_all(self) -> None:
        """As a power cut does."""
        everything = self.tree()
        kill(everything)
        assert self._process is not None
        self._process.wait(PATIENCE)
        self._process = None
        psutil.wait_procs(everything, PATIENCE)

    def kill_supervisor(self) -> list[psutil.Process]:
        """Only the supervisor; returns what it had started."""
        assert self._process is not None
        _, *others = self.tree()
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process = None
        return others

    def status(self) -> dict[str, Any]:
        """`/status.json`."""
        content: dict[str, Any] = requests.get(f"{self.url}/status.json", timeout=PATIENCE).json()
        return content

    def predict(self, tasks: list[dict[str, Any]], **body: Any) -> requests.Response:
        """One `/predict` as Label Studio sends it."""
        whole = {"tasks": tasks, "project": "1.0", "label_config": "", "params": {}, **body}
        return requests.post(f"{self.url}/predict", json=whole, timeout=PATIENCE)

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One `eacps` command with this backend's settings."""
        finished = subprocess.run(
            [self._python, "-m", "eacps", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and finished.returncode:
            raise AssertionError(f"{arguments}: {finished.stdout}\n{finished.stderr}")
        return finished

    def images(self) -> dict[str, float]:
        """Every stored image with the time of its last writing."""
        folder = self.folder / "data" / "artifacts"
        return {path.name: path.stat().st_mtime for path in folder.rglob("*.png")}


def kill(processes: Iterable[psutil.Process]) -> None:
    """`kill -9`, in this order; those that are gone by then are skipped."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_until(condition: Callable[[], Any], explain: Callable[[], str] = str) -> None:
    """As `patience.wait_until`; a server that does not answer yet is waited for."""
    forgiven = (requests.RequestException, ValueError, KeyError)
    patience.wait_until(condition, explain, forgiven=forgiven)


def bear_tasks(
    server: LabelStudioServer, project: int, count: int, seed: int = 5
) -> list[dict[str, Any]]:
    """Tasks with uploaded bears, ready to import."""
    tasks = []
    for number, bear in enumerate(demo_tasks(count, seed)):
        path = uploaded(server, project, f"bear-{seed}-{number}.png", bear.image)
        tasks.append({"image": path, "prompt": bear.instruction})
    return tasks


def uploaded(server: LabelStudioServer, project: int, name: str, image: Image) -> str:
    """Where Label Studio has an image after uploading it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return server.upload(project, name, buffer.getvalue())


def connected_project(server: LabelStudioServer, backend: Backend) -> int:
    """A new project that a backend works for."""
    from eacps.labelstudio.label_config import label_config

    number = server.create_project(label_config(), "End to end")
    backend.command("connect", "--project", str(number))
    return number
