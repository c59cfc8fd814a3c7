"""A supervisor with light workers and an orchestrator, which the chaos tests attack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eacps.jobs.client import JobClient
from eacps.jobs.contract import JobStatus
from eacps.settings import Settings
from tests.chaos import jobs_play
from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
CANDIDATES = 8
STALE_SECONDS = 12.0
SECOND_ROUND = ["c5", "c6", "c7", "c8"]
EVERY_ROUND = [f"c{number}" for number in range(1, 9)]


class Stage:
    """A supervisor with two workers, and what their logs say."""

    def __init__(
        self,
        folder: Path,
        database: str,
        data_dir: Path | None = None,
        batch_timeout: int = 20,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        data_dir = data_dir or folder
        self.variables = {
            jobs_play.NOTES: str(folder),
            "EACPS_DATA_DIR": str(data_dir),
            "EACPS_DATABASE_URL": database,
            "EACPS_HOST_NAME": "here",
            # Long enough that a busy machine does not look like a dead one.
            "EACPS_STALE_AFTER_SECONDS": f"{STALE_SECONDS}",
            "EACPS_BATCH_TIMEOUT_SECONDS": f"{batch_timeout}",
            "EACPS_SEARCH_CONCURRENCY": "3",
            **variables,
        }
        self.settings = Settings(
            data_dir=data_dir,
            database_url=database,
            artifacts_url=self.variables.get("EACPS_ARTIFACTS_URL", ""),
            stale_after_seconds=STALE_SECONDS,
            host_name="here",
        )
        self.client = JobClient(self.settings)
        self.started: list[subprocess.Popen[Any]] = []
        self.stored: dict[str, set[tuple[str, ...]]] = {}
        try:
            self.supervisor = self.play("supervisor", "2")
            self.until(lambda: len(self.client.workers()) == 3)
        except BaseException:
            self.close()
            raise

    def play(self, *role: str, **variables: str) -> subprocess.Popen[Any]:
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, jobs_play.__file__, *role],
                cwd=ROOT,
                env={**os.environ, **self.variables, **variables},
                stdout=subprocess.PIPE if role[0] == "submit" else log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
        self.client.close()

    def until(self, condition: Callable[[], Any]) -> None:
        wait_until(condition, (self.folder / "log.txt").read_text)

    def release(self, text: str) -> None:
        """Let the trials go on that a job of this text holds."""
        (self.folder / f"go-{text}").touch()

    def until_delivered(self, *jobs: str) -> None:
        self.until(lambda: all(self.deliveries(name) for name in jobs))
        ended = ("done", "failed")
        self.until(lambda: all(self.status(name).state in ended for name in jobs))

    def status(self, name: str) -> JobStatus:
        status = self.client.status(name)
        assert status is not None, f"the job {name} is lost"
        return status

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []

    def deliveries(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines("deliveries") if line["job"] == name]

    def renders(self, text: str, event: str) -> list[tuple[str, ...]]:
        return [
            tuple(line["trials"])
            for line in self.lines("renders")
            if line["text"] == text and line["event"] == event
        ]

    def until_halfway(self, name: str, text: str = "") -> None:
        """The first round is stored, the second is being rendered: there its trials are held."""
        self.until(lambda: self.status(name).finished == CANDIDATES // 2)
        self.until(lambda: len(self.renders(text or name, "start")) > 2)
        self.stored[text or name] = set(self.renders(text or name, "end")[:2])

    def kill(self, name: str) -> None:
        worker = next(worker for worker in self.client.workers() if worker.name == f"here/{name}")
        kill_process(worker.pid)

    def assert_rendered_once(self, text: str) -> None:
        ended = Counter(self.renders(text, "end"))
        # A batch that was in flight when something died may have ended without being stored.
        finished_before = self.stored.get(text, set(ended))
        assert all(ended[trials] == 1 for trials in finished_before), ended
        assert set(ended.values()) <= {1, 2}, ended
        assert sum(map(len, ended)) == CANDIDATES

    def assert_delivered_once(self, name: str) -> None:
        assert [line.get("usable") for line in self.deliveries(name)] == [CANDIDATES]
        assert self.status(name).state == "done"


def kill_process(pid: int) -> None:
    # Whoever was killed a moment ago may still be listed.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
