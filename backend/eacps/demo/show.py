"""`eacps demo`: a real Label Studio, workers, and a project of bears and faces to review."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import requests
from PIL import Image
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from eacps.demo.faces import FaceTask, NoFacesError, face_tasks
from eacps.demo.label_studio import (
    PASSWORD,
    USERNAME,
    LabelStudioError,
    LabelStudioServer,
    free_port,
)
from eacps.demo.tasks import DemoTask, demo_tasks
from eacps.errors import FaceError
from eacps.faces.download import fetch_models, missing_models
from eacps.labelstudio.cards.naming import RECORD
from eacps.settings import FACE_MODELS

PROJECT_TITLE = "Bear studio"
TASK_SEED = 7
FINISH_LIMIT_SECONDS = 1800
OWN_FILE = re.compile(r"(?:bear-\d+|face-\w+)\.png$")


class DemoError(RuntimeError):
    """The demo cannot continue; the message says why and what to check."""


@dataclass
class Demo:
    """The processes and files of one run of the demo."""

    program: Path
    folder: Path
    count: int
    console: Console
    swaps: Callable[[], list[FaceTask]] = face_tasks
    backend: subprocess.Popen[bytes] | None = None
    backend_port: int = 0
    started: float = field(default_factory=time.monotonic)
    first_prediction: float | None = None
    server: LabelStudioServer | None = None

    @property
    def label_studio(self) -> LabelStudioServer:
        """The demo's Label Studio, started on first use."""
        if self.server is None:
            self.server = LabelStudioServer(
                self.program, self.folder / "label-studio", self._token(), free_port(8080)
            )
            self.server.start()
        return self.server

    def _token(self) -> str:
        path = self.folder / "token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(20))
        return path.read_text().strip()

    def start_backend(self) -> None:
        """Start the backend: web server, orchestrator and workers."""
        self.backend_port = free_port(9090)
        log = (self.folder / "eacps.log").open("ab")
        self.backend = subprocess.Popen(
            [sys.executable, "-m", "eacps", "serve"],
            cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The environment of the backend; `EACPS_*` variables of the caller have priority."""
        return {
            # The demo's verifier is much better than CLIP at telling good edits from bad ones
            # (docs/scoring.md).
            "EACPS_POTENTIAL": "weighted",
            "EACPS_WEIGHTS": '{"verified": 1}',
            "EACPS_FACE_ENGINE": "basic",
            **os.environ,
            "EACPS_FACE_MODELS": str(_face_models()),
            "EACPS_DATA_DIR": str(self.folder / "eacps"),
            "EACPS_PORT": str(self.backend_port),
            "EACPS_HOST": "127.0.0.1",
            "EACPS_PUBLIC_URL": f"http://localhost:{self.backend_port}",
            "LABEL_STUDIO_URL": self.label_studio.url,
            "LABEL_STUDIO_API_KEY": self.label_studio.token,
            "HF_HUB_OFFLINE": "1",
        }

    def check_alive(self) -> None:
        """Raise DemoError if the backend or Label Studio has ended."""
        if self.backend is not None and self.backend.poll() is not None:
            tail = (self.folder / "eacps.log").read_text(errors="replace").splitlines()[-15:]
            raise DemoError("The backend ended; the end of its log:\n" + "\n".join(tail))
        process = self.label_studio.process
        if process is not None and process.poll() is not None:
            raise DemoError(f"Label Studio ended; its log:\n{self.label_studio.tail()}")

    def wait_for_backend(self) -> None:
        """Wait until the web server responds."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.check_alive()
            with suppress(requests.RequestException):
                if requests.get(f"http://127.0.0.1:{self.backend_port}/health", timeout=2).ok:
                    return
            time.sleep(0.2)
        raise DemoError(f"The backend did not answer; see {self.folder / 'eacps.log'}.")

    def stop(self) -> None:
        """Stop all processes."""
        if self.backend is not None:
            self.backend.send_signal(signal.SIGTERM)
            try:
                self.backend.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.backend.pid, signal.SIGKILL)
            self.backend = None
        if self.server is not None:
            self.server.stop()

    def project(self) -> int:
        """The number of the demo's project, from the last run or newly created."""
        found = self.label_studio.api("GET", "/api/projects?page_size=1000").json()["results"]
        for project in found:
            if project["title"] == PROJECT_TITLE:
                return int(project["id"])
        made = self.label_studio.api(
            "POST",
            "/api/projects",
            json={"title": PROJECT_TITLE, "description": "Edits found by search, for review."},
        )
        return int(made.json()["id"])

    def connect(self, project: int) -> None:
        """Install label config, backend and webhook in the project."""
        finished = subprocess.run(
            [sys.executable, "-m", "eacps", "connect", "--project", str(project)],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if finished.returncode:
            raise DemoError(f"Connecting failed:\n{finished.stdout}{finished.stderr}")

    def import_tasks(self, project: int) -> int:
        """Import missing tasks of the demo; returns the total number of its tasks."""
        known = {_file_name(task) for task in self.own_tasks(project)}
        new = [task for name, task in self.wanted().items() if name not in known]
        if new:
            tasks = [task(project) for task in new]
            self.label_studio.api("POST", f"/api/projects/{project}/import", json=tasks)
        return len(known) + len(new)

    def wanted(self) -> dict[str, Callable[[int], dict[str, Any]]]:
        """Functions that upload a task's pictures and return its data, by picture name."""
        bears = demo_tasks(self.count, TASK_SEED)
        wanted = {
            f"bear-{number:02d}.png": partial(self._bear, f"bear-{number:02d}.png", task)
            for number, task in enumerate(bears, start=1)
        }
        return wanted | {f"{task.name}.png": partial(self._swap, task) for task in self._faces()}

    def _bear(self, name: str, task: DemoTask, project: int) -> dict[str, Any]:
        return {"image": self._upload(project, name, task.image), "prompt": task.instruction}

    def _swap(self, task: FaceTask, project: int) -> dict[str, Any]:
        return task.data(partial(self._upload, project))

    def _faces(self) -> list[FaceTask]:
        """The face swaps, or none if they are not available; prints why."""
        folder = _face_models()
        try:
            tasks = self.swaps()
            fetch_models(folder, self._say if missing_models(folder) else _say_nothing)
        except (FaceError, NoFacesError) as error:
            self.console.print("[yellow]The demo continues without face swaps:[/]", error)
            return []
        return tasks

    def _say(self, line: str) -> None:
        self.console.print(line, style="dim", highlight=False)

    def _upload(self, project: int, name: str, image: Image.Image) -> str:
        content = io.BytesIO()
        image.save(content, "PNG")
        return self.label_studio.upload(project, name, content.getvalue())

    def own_tasks(self, project: int) -> list[dict[str, Any]]:
        """The demo's tasks with their predictions, without tasks that users imported."""
        path = f"/api/tasks?project={project}&page_size=1000&fields=all"
        tasks: list[dict[str, Any]] = self.label_studio.api("GET", path).json()["tasks"]
        return [task for task in tasks if _file_name(task)]

    def watch(self, project: int, total: int, progress: Progress) -> None:
        """Wait until every task has a prediction, showing progress."""
        row = progress.add_task("Searching", total=total, detail="")
        deadline = time.monotonic() + FINISH_LIMIT_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            status = self._status()
            # Do not request the tasks, which would make Label Studio call predict each time.
            found = self.label_studio.api("GET", f"/api/projects/{project}").json()
            done = int(found["total_predictions_number"])
            if done and self.first_prediction is None:
                self.first_prediction = time.monotonic() - self.started
            progress.update(row, completed=min(done, total), detail=_detail(status))
            if done >= total:
                return
            if status.get("counts", {}).get("failed"):
                self._stop_at_failures(project, total)
            time.sleep(0.5)
        raise DemoError(f"Not finished after {FINISH_LIMIT_SECONDS} s: {self._status()}")

    def _stop_at_failures(self, project: int, total: int) -> None:
        if failures := [task for task in self.own_tasks(project) if _failed(task)]:
            raise DemoError(
                f"{len(failures)} of {total} tasks failed; the first report:\n"
                f"{failures[0]['data']['report_md']}"
            )

    def _status(self) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.backend_port}/status.json"
        with suppress(requests.RequestException, ValueError):
            content: dict[str, Any] = requests.get(address, timeout=5).json()
            return content
        return {}

    def check(self, project: int) -> str:
        """Check predictions, rankings and images; returns a summary or raises DemoError."""
        tasks = self.own_tasks(project)
        images = 0
        for task in tasks:
            predictions = task.get("predictions") or []
            versions = {prediction["model_version"] for prediction in predictions}
            if not predictions or len(versions) != len(predictions):
                raise DemoError(
                    f"Task {task['id']} has {len(predictions)} predictions of {len(versions)} "
                    "model versions; there must be one of each."
                )
            images += self._check_task(task, predictions[-1])
        faces = sum(str(_file_name(task)).startswith("face") for task in tasks)
        return (
            f"{len(tasks)} tasks ({len(tasks) - faces} bears, {faces} face swaps), one prediction "
            f"each, {images} images served"
        )

    def _check_task(self, task: dict[str, Any], prediction: dict[str, Any]) -> int:
        rankings = [r["value"]["ranker"] for r in prediction["result"] if r["type"] == "ranker"]
        cards = task["data"]["candidates"]
        listed = {name for bucket in rankings[0].values() for name in bucket}
        searches = {_search_of(name) for name in listed}
        finished = {
            card["id"]
            for card in cards
            # Cards of 0.2 and earlier have no record of their candidate.
            if _search_of(card["id"]) in searches
            and card.get(RECORD, {"state": "finished"})["state"] == "finished"
        }
        if finished != listed or len(cards) < 2:
            raise DemoError(
                f"Task {task['id']} shows {sorted(finished)} as finished but ranks "
                f"{sorted(listed)}."
            )
        gallery = task["data"]["gallery"]
        for url in gallery:
            address = url if url.startswith("http") else f"{self.label_studio.url}{url}"
            token = {"Authorization": f"Token {self.label_studio.token}"}
            answer = requests.get(address, headers=token, timeout=30)
            if not answer.headers.get("Content-Type", "").startswith("image/"):
                raise DemoError(f"{url} is not an image: {answer.status_code}.")
        return len(gallery)


def _detail(status: dict[str, Any]) -> str:
    running = status.get("running") or []
    parts = [f"{job.get('finished', 0)}/{job.get('expected', '?')}" for job in running[:4]]
    return f"candidates: {', '.join(parts)}" if parts else "loading the models"


def _file_name(task: dict[str, Any]) -> str | None:
    """The name of a task's picture if the demo uploaded it, else None."""
    found = OWN_FILE.search(str(task["data"].get("image")))
    return found and found.group()


def _search_of(card: str) -> str:
    """What ids of the same search end with."""
    return card.rpartition("-")[2]


def _say_nothing(_line: str) -> None:
    """Print nothing."""


def _face_models() -> Path:
    return Path(os.environ.get("EACPS_FACE_MODELS") or FACE_MODELS).expanduser().absolute()


def _failed(task: dict[str, Any]) -> bool:
    return bool(task["data"].get("report_md")) and not task["data"].get("gallery")


def require_own_folder(folder: Path) -> None:
    """Raise DemoError if the folder contains files, and none that an earlier demo leaves."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - {"token"} and "label-studio" not in names:
        raise DemoError(f"{folder} contains files of others; choose another --folder.")


def run_demo(
    program: Path, *, folder: Path, count: int, headless: bool, open_browser: bool
) -> None:
    """Start everything, show progress, and run until Ctrl-C, or only check and return."""
    console = Console()
    if not program.exists():
        raise DemoError(f"There is no Label Studio at {program}; `make demo` installs it.")
    require_own_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(program.absolute(), folder.absolute(), count, console)
    with _stop_on_exit(demo):
        project = _start(demo, console)
        took = time.monotonic() - demo.started
        console.print(f"[green]Ready after {took:.0f} s.[/] {demo.check(project)}.")
        _save_times(demo, took)
        if headless:
            return
        backend = f"http://localhost:{demo.backend_port}"
        console.print(explanation(demo.label_studio.url, project, backend, demo.folder))
        if open_browser:
            webbrowser.open(f"{demo.label_studio.url}/projects/{project}/data")
        while True:
            demo.check_alive()
            time.sleep(1)


def _save_times(demo: Demo, took: float) -> None:
    first = demo.first_prediction
    times = {"all": round(took, 1), "first_prediction": None if first is None else round(first, 1)}
    (demo.folder / "last-run.json").write_text(json.dumps(times))


def progress_bar(console: Console) -> Progress:
    """A progress bar that fits into 80 columns: a long detail ends with an ellipsis."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn(
            "{task.fields[detail]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        ),
        console=console,
        expand=True,
    )


def _start(demo: Demo, console: Console) -> int:
    with progress_bar(console) as progress:
        row = progress.add_task("Starting", total=4, detail="Label Studio and workers")
        address = demo.label_studio.url
        demo.start_backend()
        progress.update(row, advance=1, detail=address)
        demo.label_studio.wait(demo.check_alive)
        demo.wait_for_backend()
        progress.update(row, advance=1, detail="project and connection")
        project = demo.project()
        demo.connect(project)
        progress.update(row, advance=1, detail="importing bears and faces")
        total = demo.import_tasks(project)
        progress.update(row, advance=1, detail=f"{total} tasks")
        demo.watch(project, total, progress)
    return project


def explanation(address: str, project: int, backend: str, folder: Path) -> Panel:
    """What to do next; it fits into 80 columns."""
    return Panel(
        f"[bold]Open[/]      {address}/projects/{project}/data\n"
        f"[bold]Log in[/]    {USERNAME}   [bold]password[/] {PASSWORD}\n\n"
        "[bold]Three things to try[/]\n"
        " 1. Open a task: the original, the best result, all candidates' scores.\n"
        " 2. Drag a better candidate to the top, or into Rejected, and submit.\n"
        " 3. Import your own image with a `prompt`. Its prediction comes by itself.\n\n"
        f"[dim]Jobs and workers  {backend}/status\n"
        f"Logs              {folder}\n"
        "Ctrl-C stops everything.[/]",
        title="Bear studio is ready",
        expand=False,
    )


@contextmanager
def _stop_on_exit(demo: Demo) -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        demo.console.print("Stopping …")
    except LabelStudioError as error:
        raise DemoError(str(error)) from error
    finally:
        # Ignore Ctrl-C while stopping, or processes would be left behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
