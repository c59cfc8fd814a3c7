"""`eacps` as users start it: real processes, real searches, killed and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from PIL import Image

from eacps.demo.tasks import demo_tasks
from tests import patience
from tests.label_studio_server import free_port
from tests.patience import PATIENCE
from tests.stack import ROOT, wait_until

KEPT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("EACPS_", "LABEL_ST", "CUDA_VISIBLE"))
}
ENVIRONMENT = {
    **KEPT,
    "PYTHONPATH": str(ROOT / "backend"),
    "HF_HUB_OFFLINE": "1",
    "EACPS_DEVICES": "cpu",
    "EACPS_THREADS": "1",
    "EACPS_STEPS": "4",
    "COLUMNS": "100",
}
CANDIDATES = 8
GATE = """
import time
from pathlib import Path

from eacps import MetricRange


class Gate:
    ranges = {"gate": MetricRange(worst=0, best=1)}

    def score(self, task, images, edited, progress):
        passed = Path("passed")
        before = len(passed.read_text()) if passed.exists() else 0
        while Path("gate").exists() and before >= int(Path("gate").read_text()):
            time.sleep(0.05)
        passed.write_text("x" * (before + 1))
        return [{"gate": 1.0} for _ in edited]
"""


class Shell:
    """A folder with bears in it, and commands started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.bears = list(demo_tasks(3, 11))
        for number, bear in enumerate(self.bears):
            bear.image.save(folder / f"bear-{number}.png")

    def gate(self, batches: int) -> None:
        """Let no more batches than so many pass until the gate is moved: a run can be
        interrupted in its middle, however fast the machine is."""
        (self.folder / "gate.py").write_text(GATE)
        (self.folder / "gate").write_text(str(batches))

    def start(self, *arguments: str, path: Path | None = None) -> subprocess.Popen[str]:
        gated = {"EACPS_SCORERS": "gate.py:Gate"} if (self.folder / "gate.py").exists() else {}
        if path is not None:
            gated["PYTHONPATH"] = f"{path}:{ENVIRONMENT['PYTHONPATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "eacps", *arguments],
            cwd=self.folder, env=ENVIRONMENT | gated, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        shown, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, shown

    def report(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.results / f"{name}.json").read_text())
        return content

    def batches(self) -> dict[str, int]:
        """Every finished batch with the time at which it ended."""
        path = self.results / ".eacps" / "jobs.sqlite"
        if not path.exists():
            return {}
        query = (
            "SELECT workflow_uuid, completed_at FROM workflow_status "
            "WHERE name = 'batch' AND status = 'SUCCESS'"
        )
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            try:
                return dict(connection.execute(query).fetchall())
            except sqlite3.OperationalError:
                return {}

    def others(self) -> list[psutil.Process]:
        """Processes that still work on our results."""
        marker = str(self.results / ".eacps")
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("EACPS_DATA_DIR") == marker:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def log(self) -> str:
        path = self.results / ".eacps" / "run.log"
        return path.read_text(errors="replace") if path.exists() else "no log yet"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def export(shell: Shell) -> str:
    """What Label Studio's JSON export looks like, with ids that have gaps."""
    tasks = [
        {
            "id": 10 + 3 * number,
            "data": {"image": f"bear-{number}.png", "prompt": bear.instruction},
            "annotations": [],
            "predictions": [],
        }
        for number, bear in enumerate(shell.bears)
    ]
    (shell.folder / "project.json").write_text(json.dumps(tasks))
    return "project.json"


def test_a_run_goes_on_after_ctrl_c_and_kill_9_without_doing_anything_twice(shell: Shell) -> None:
    command = ("run", "--from-file", export(shell), "--task-ids", "10,16", "--out", "results")

    shell.gate(1)
    first = shell.start(*command)
    wait_until(lambda: len(shell.batches()) >= 1, shell.log)
    first.send_signal(signal.SIGINT)
    shown, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 130
    assert "Run the same command again" in shown
    assert "Traceback" not in shown
    assert not shell.others()
    after_ctrl_c = shell.batches()

    shell.gate(2)
    second = shell.start(*command)
    wait_until(lambda: len(shell.batches()) > len(after_ctrl_c), shell.log)
    second.kill()
    second.communicate(timeout=PATIENCE)
    wait_until(lambda: not shell.others(), shell.log)
    after_kill = shell.batches()
    assert after_kill.items() >= after_ctrl_c.items()

    (shell.folder / "gate").unlink()
    code, shown = shell.run(*command)
    assert code == 0, shown + shell.log()
    assert shell.batches().items() >= after_kill.items()
    for name in ("task-10", "task-16"):
        report = shell.report(name)
        assert len(report["candidates"]) == CANDIDATES
        assert report["best"] == report["candidates"][0]["trial"]["id"]
        with Image.open(shell.results / name / "best.png") as best:
            assert best.size == shell.bears[0].image.size
        assert len(list((shell.results / name).glob("c*.png"))) == CANDIDATES
    assert not (shell.results / "task-13").exists()

    finished = shell.batches()
    written = (shell.results / "task-10" / "best.png").stat().st_mtime_ns
    code, shown = shell.run(*command)
    assert code == 0
    assert "Kept 2 of 2" in shown
    assert shell.batches() == finished
    assert (shell.results / "task-10" / "best.png").stat().st_mtime_ns == written


def test_bad_tasks_are_explained_and_the_good_ones_are_done(shell: Shell) -> None:
    bear = shell.bears[0]
    frames = [other.image.convert("P") for other in shell.bears]
    frames[0].save(shell.folder / "moving.gif", save_all=True, append_images=frames[1:])
    (shell.folder / "text.png").write_text("no image")
    lines = [
        {"image": "moving.gif", "prompt": bear.instruction},
        {"image": "gone.png", "prompt": bear.instruction},
        {"image": "text.png", "prompt": bear.instruction},
        {"image": "bear-0.png"},
        {"image": "bear-0.png", "prompt": "swap it", "route": "face swap"},
        {"image": "http://127.0.0.1:9/a.png", "prompt": bear.instruction},
        {"id": "good", "image": "bear-0.png", "prompt": bear.instruction},
    ]
    (shell.folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))

    code, shown = shell.run("run", "--from-file", "tasks.jsonl", "--out", "results")
    assert code == 1, shown
    assert "Traceback" not in shown
    assert f"✓ {shell.results}/good/best.png" in shown
    codes = [shell.report(f"task-{number}")["error"]["code"] for number in range(1, 7)]
    assert codes[0] == "image_animated"
    assert codes[3:5] == ["no_instruction", "no_character"]
    for number in range(1, 7):
        assert f"✗ task-{number}: " in shown
        assert not (shell.results / f"task-{number}").exists()

    # Fix the task; only this task is run again.
    finished = shell.batches()
    shell.bears[1].image.save(shell.folder / "gone.png")
    code, shown = shell.run(
        "run", "--from-file", "tasks.jsonl", "--task-ids", "2", "--out", "results"
    )
    assert code == 0, shown
    assert len(shell.report("task-2")["candidates"]) == CANDIDATES
    assert shell.batches().items() > finished.items()

    jobs = {**ENVIRONMENT, "EACPS_DATA_DIR": str(shell.results / ".eacps")}
    listed = subprocess.run(
        [sys.executable, "-m", "eacps", "jobs", "list", "--state", "failed"],
        cwd=shell.folder, env=jobs, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Use a single still image." in listed


def test_two_runs_into_one_folder_do_not_disturb_each_other(shell: Shell) -> None:
    arguments = ("run", "--image", "bear-0.png", "--prompt", "add a hat", "--out", "results")
    first = shell.start(*arguments)
    wait_until((shell.results / ".eacps" / "run.log").exists, shell.log)
    code, shown = shell.run(*arguments)
    assert code == 2
    assert "Another `eacps run` is running in" in shown
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=PATIENCE)
    assert not shell.others()


SLOW_REPORTS = """
import sys
import time

if "offline-workers" in sys.orig_argv:
    from eacps.offline.hooks import FileHooks

    real = FileHooks.deliver_failure

    def slow(*arguments):
        time.sleep(3)
        real(*arguments)

    FileHooks.deliver_failure = slow
"""


def test_a_failed_run_ends_after_its_reports_are_written(shell: Shell) -> None:
    (shell.folder / "sitecustomize.py").write_text(SLOW_REPORTS)
    (shell.folder / "text.png").write_text("no image")
    process = shell.start(
        "run", "--image", "text.png", "--prompt", "add a hat", "--out", "results",
        path=shell.folder,
    )  # fmt: skip
    shown, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, shown
    assert shell.report("text")["error"]["code"] == "bad_image"
    assert not shell.others()


def test_a_folder_of_the_user_survives_a_run_into_its_place(shell: Shell) -> None:
    """As it happened: the folder `src` was deleted, and `src.json` was overwritten."""
    (shell.folder / "src").mkdir()
    (shell.folder / "src" / "main.py").write_text("my code")
    (shell.folder / "src.json").write_text('{"mine": 1}')
    shell.bears[0].image.save(shell.folder / "src.png")
    (shell.folder / "docs").mkdir()
    (shell.folder / "docs" / "thesis.txt").write_text("keep")
    (shell.folder / "docs.png").write_text("no image")
    before = {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}

    for name in ("src", "docs", "docs"):
        code, shown = shell.run("run", "--image", f"{name}.png", "--prompt", "add a hat",
                                "--out", ".")  # fmt: skip
        assert code == 1
        assert f"✗ {name}: {shell.folder / name} is in the way: eacps did not write it." in shown
    lines = [{"id": each, "image": "bear-0.png", "prompt": "add a hat"} for each in ("src", "../x")]
    (shell.folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    before[shell.folder / "tasks.jsonl"] = (shell.folder / "tasks.jsonl").read_bytes()
    code, shown = shell.run("run", "--from-file", "tasks.jsonl", "--out", ".")
    assert code == 1
    assert "✗ src: " in shown
    assert "✓ " in shown
    assert {path: path.read_bytes() for path in before} == before
    assert not (shell.folder.parent / "x").exists()


def test_weights_that_cannot_be_loaded_end_the_run_with_the_reason(shell: Shell) -> None:
    model = shell.folder / "model"
    model.mkdir()
    (model / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    arguments = ("run", "--image", "bear-0.png", "--prompt", "add a hat", "--out", "results")
    process = subprocess.run(
        [sys.executable, "-m", "eacps", *arguments],
        cwd=shell.folder, env={**ENVIRONMENT, "EACPS_EDITOR": str(model)},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert process.returncode == 2
    assert "NoSuchPipeline" in process.stderr
    assert "Traceback" not in process.stderr
    assert not shell.others()


BROKEN = """
import os
import signal


class Raises:
    def load(context):
        raise OSError("the weights end too early")


class Killed:
    def load(context):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("editor", "words"),
    [
        ("Raises", "cannot be loaded: OSError: the weights end too early."),
        (
            "Killed",
            "worker 0 cannot start: it ended 3 times before it was ready (killed by SIGKILL)",
        ),
    ],
)
def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(
    shell: Shell, editor: str, words: str
) -> None:
    (shell.folder / "broken.py").write_text(BROKEN)
    process = subprocess.run(
        [sys.executable, "-m", "eacps", "run", "--image", "bear-0.png", "--prompt", "add a hat",
         "--out", "results"],
        cwd=shell.folder, env={**ENVIRONMENT, "EACPS_EDITOR": f"broken.py:{editor}"},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert process.returncode == 2, shell.log()
    assert words in process.stderr
    assert "Traceback" not in process.stderr
    assert not shell.others()


def test_serve_shows_why_a_worker_cannot_start(shell: Shell) -> None:
    (shell.folder / "broken.py").write_text(BROKEN)
    port, log = free_port(), shell.folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "eacps", "serve"], cwd=shell.folder, stdout=file, stderr=file,
            env={**ENVIRONMENT, "EACPS_EDITOR": "broken.py:Raises", "EACPS_PORT": str(port)},
        )  # fmt: skip

    def worker() -> dict[str, Any]:
        facts = requests.get(f"http://127.0.0.1:{port}/status.json", timeout=PATIENCE).json()
        return next((each for each in facts["workers"] if each["name"].endswith("device-0")), {})

    def is_tried_again() -> bool:
        return log.read_text().count("worker 0 exited (exit code 2); restarting in") >= 3

    try:
        patience.wait_until(worker, log.read_text, forgiven=(requests.ConnectionError, KeyError))
        assert worker()["role"] == "worker that cannot start"
        assert "OSError: the weights end too early." in worker()["note"]
        wait_until(is_tried_again, log.read_text)
        pauses = re.findall(r"worker 0 exited .* restarting in ([0-9.]+) s", log.read_text())
        assert [float(each) for each in pauses[:3]] == [0.5, 1.0, 2.0]
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_the_console_script_and_the_module_are_the_same_command(shell: Shell) -> None:
    script = "import sys; from eacps.cli import main; sys.argv[0] = 'eacps'; main()"
    for command in ([sys.executable, "-c", script], [sys.executable, "-m", "eacps"]):
        shown = subprocess.run(
            [*command, "--version"], cwd=shell.folder, env=ENVIRONMENT,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert shown.strip().count(".") == 2


def test_connect_without_label_studio_says_what_to_set(shell: Shell) -> None:
    environment = {
        **ENVIRONMENT,
        "LABEL_STUDIO_URL": f"http://127.0.0.1:{free_port()}",
        "LABEL_STUDIO_API_KEY": "very-secret",
    }
    process = subprocess.run(
        [sys.executable, "-m", "eacps", "connect", "--project", "1"],
        cwd=shell.folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert "LABEL_STUDIO_URL" in process.stdout
    assert "very-secret" not in process.stdout + process.stderr
