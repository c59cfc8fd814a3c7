"""0.1 itself, from this repository's history, beside this version and in its place."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eacps.demo.tasks import demo_tasks
from eacps.jobs.client import JobClient
from eacps.jobs.database import Records, database_url, open_engine
from eacps.settings import load_settings
from tests.chaos.test_upgrade import POSTGRES
from tests.patience import PATIENCE, wait_until
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio
from tests.stack import ROOT

COMMIT = "7e276af805e3cebeafc4f9cd9fa4a70bf0f0c3f9"
"""The last one of 0.1; tests/fixtures/stored/0.1 was written by it."""
ANNOUNCE_01 = """
import json, sys
from backend.jobs.client import JobClient
from backend.labelstudio.predictor import tasks_created
from backend.settings import load_settings
settings = load_settings()
print(tasks_created(json.load(sys.stdin), settings, JobClient(settings)))
"""
ANNOUNCE = (
    ANNOUNCE_01.replace("backend.labelstudio.", "eacps.labelstudio.web.")
    .replace("backend.", "eacps.")
)  # fmt: skip


@pytest.fixture(scope="session")
def version_01(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of 0.1's sources."""
    archived = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT, "backend", "demo", "model.py"],
        capture_output=True, check=False,
    )  # fmt: skip
    if archived.returncode:
        pytest.skip(f"this checkout has no history with 0.1: {archived.stderr.decode()[:200]}")
    folder = tmp_path_factory.mktemp("0.1")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return str(folder)


@dataclass
class Place:
    """A database and a Label Studio, and the processes of two versions."""

    site: RecordedLabelStudio
    folder: Path
    variables: dict[str, str]
    path_01: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = JobClient(load_settings())

    def environment(self, *, old: bool, **variables: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_ST"))}
        path = self.path_01 if old else str(ROOT / "backend")
        return {**kept, **self.variables, "PYTHONPATH": path, **variables}

    def start(self, host: str, *, old: bool) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "backend" if old else "eacps", "worker"],
                cwd=self.folder, env=self.environment(old=old, EACPS_HOST_NAME=host),
                stdout=log, stderr=log,
            )  # fmt: skip
        self.started.append(process)
        self.until(lambda: self.running(host) == 2)
        return process

    def running(self, host: str) -> int:
        return sum(each.name.startswith(f"{host}/") for each in self.client.workers())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "eacps", *arguments], cwd=self.folder, text=True, check=False,
            env=self.environment(old=False), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def until(self, condition: Any) -> None:
        wait_until(condition, (self.folder / "log").read_text)

    def announce(self, numbers: Iterable[int], *, old: bool) -> int:
        """As a webhook does, to a web server of one version; returns how many jobs are new."""
        tasks = [self.site.tasks[number] for number in numbers]
        body = {"action": "TASKS_CREATED", "tasks": tasks, "project": {"id": 1}}
        done = subprocess.run(
            [sys.executable, "-c", ANNOUNCE_01 if old else ANNOUNCE], cwd=self.folder,
            env=self.environment(old=old), input=json.dumps(body), text=True, check=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        return int(done.stdout)

    def states(self) -> dict[int, str]:
        return {status.origin["task"]: status.state for status in self.client.list()}

    def are_done(self, numbers: Iterable[int]) -> bool:
        states = self.states()
        assert "failed" not in states.values(), self.client.list(50, "failed")
        return all(states.get(number) == "done" for number in numbers)

    def finished_batches(self) -> dict[str, float | None]:
        records = Records(open_engine(database_url(load_settings())))
        rows = [row for row in records.newest("batch", 1000) if row.status == "SUCCESS"]
        records.engine.dispose()
        return {row.id: row.completed for row in rows}

    def assert_each_has_one_prediction(self, numbers: Iterable[int]) -> None:
        found = {number: len(self.site.predictions_of(number)) for number in numbers}
        assert found == dict.fromkeys(numbers, 1)

    def close(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            process.wait(PATIENCE)
        self.client.close()


@pytest.fixture(params=["sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    version_01: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    if request.param == "postgres" and not POSTGRES:
        pytest.skip("EACPS_TEST_POSTGRES_URL names no server")
    address = f"{POSTGRES.rsplit('/', 1)[0]}/beside_{uuid.uuid4().hex[:12]}"
    with RecordedLabelStudio() as site:
        variables = {
            "EACPS_DATA_DIR": str(tmp_path),
            "EACPS_DATABASE_URL": address if request.param == "postgres" else "",
            "EACPS_DEVICES": "cpu",
            "EACPS_THREADS": "1",
            "EACPS_STRATEGY": "best_of_n",
            "EACPS_STRATEGY_PARAMS": '{"n": 6}',
            "EACPS_STEPS": "4",
            "EACPS_BATCH_SIZE": "2",
            "LABEL_STUDIO_URL": site.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for number, bear in enumerate(demo_tasks(12, 5), start=1):
            picture = io.BytesIO()
            bear.image.save(picture, "PNG")
            path = f"/data/upload/1/{number}.png"
            site.served[path] = picture.getvalue()
            site.add_task(number, {"image": path, "prompt": bear.instruction})
        (tmp_path / "log").touch()
        place = Place(site, tmp_path, variables, version_01)
        try:
            yield place
        finally:
            place.close()


def test_both_versions_work_until_the_old_one_stops(place: Place) -> None:
    old = place.start("old", old=True)
    assert place.announce(range(1, 7), old=True) == 6
    place.until(place.finished_batches)
    place.start("new", old=False)
    assert place.announce([7, 8, 9], old=False) == 3
    assert place.announce([1, 2, 7], old=False) == 0, "these were announced before"
    place.until(lambda: place.are_done([7]))
    assert "Several versions are running: 0.1 on old" in place.command("doctor").stdout
    refused = place.command("drain", "old")
    assert refused.returncode == 2
    assert "0.1, which cannot drain" in refused.stdout
    before = place.finished_batches()
    old.send_signal(signal.SIGTERM)
    assert old.wait(PATIENCE) == 0
    # A web server of the old version may still be there.
    assert place.announce([10, 11], old=True) == 2
    place.until(lambda: place.are_done(range(1, 12)))
    place.assert_each_has_one_prediction(range(1, 12))
    after = place.finished_batches()
    assert {name: after[name] for name in before} == before, "something was rendered again"
    assert place.command("drain", "new").returncode == 0


def test_going_back_works_for_new_tasks_and_keeps_the_others(place: Place) -> None:
    new = place.start("here", old=False)
    place.announce([1], old=False)
    place.until(lambda: place.are_done([1]))
    assert place.command("drain", "here").returncode == 0
    assert new.wait(PATIENCE) == 0
    place.announce([2], old=False)
    old = place.start("here", old=True)
    place.announce([3], old=True)
    place.until(lambda: place.are_done([1, 3]))
    # 0.1 does not know the work of later versions, and leaves it alone.
    assert place.states()[2] == "queued"
    assert place.announce([1, 2], old=True) == 0
    old.send_signal(signal.SIGTERM)
    assert old.wait(PATIENCE) == 0
    place.start("here", old=False)
    place.until(lambda: place.are_done([1, 2, 3]))
    place.assert_each_has_one_prediction([1, 2, 3])


def test_a_folder_that_01_wrote_is_continued(
    version_01: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith("EACPS_")]:
        monkeypatch.delenv(name)
    lines: list[str] = []
    # In 0.1 a text id was shortened without a hash; such names are kept.
    for identity, bear in zip(("red hat/1", 7, "unfinished"), demo_tasks(3, 5), strict=True):
        bear.image.save(tmp_path / f"{len(lines)}.png")
        image = f"{len(lines)}.png"
        lines.append(json.dumps({"id": identity, "image": image, "prompt": bear.instruction}))
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines))
    (tmp_path / "two.jsonl").write_text("\n".join(lines[:2]))

    def run(tasks: str, path: str, package: str, **variables: str) -> str:
        settings = {"EACPS_STRATEGY": "best_of_n", "EACPS_STRATEGY_PARAMS": '{"n": 2}'}
        done = subprocess.run(
            [sys.executable, "-m", package, "run", "--from-file", tasks, "--out", "results"],
            cwd=tmp_path, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **settings, "EACPS_STEPS": "4", "PYTHONPATH": path, **variables},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def written() -> dict[str, float]:
        return {path.name: path.stat().st_mtime for path in (tmp_path / "results").glob("*.json")}

    run("two.jsonl", version_01, "backend")
    before = written()
    assert set(before) == {"red-hat-1.json", "task-7.json"}
    assert "Kept 2 of 3 tasks" in run("tasks.jsonl", str(ROOT / "backend"), "eacps")
    after = written()
    assert after == {**before, "unfinished.json": after["unfinished.json"]}
    # Other settings: 0.1's results are recognised as ours, and replaced.
    run("two.jsonl", str(ROOT / "backend"), "eacps", EACPS_SEED="1")
    assert written()["task-7.json"] > before["task-7.json"]
