"""What the engine costs, without an editor: seconds per task, idle processes, and a fleet.

`python -m benchmarks.fleet overhead --against OTHER_CHECKOUT` compares two versions in one run,
taking turns. `python -m benchmarks.fleet fleet --database postgresql://…` simulates many workers,
and `idle` measures processes that have nothing to do. Raw results are kept as JSON Lines.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from rich.console import Console

from benchmarks.engine import machine
from benchmarks.fleet_processes import STARTS
from eacps.jobs.client import JobClient
from eacps.jobs.contract import BATCH_PRIORITY, INTERACTIVE_PRIORITY, Job
from eacps.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PLAY = Path(__file__).with_name("fleet_processes.py")
console = Console()
Row = dict[str, Any]
ARRIVING = 10_000
ALONE_SECONDS = 15.0


def main() -> None:
    """Run one part and append its results."""
    # So that the processes are ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["overhead", "fleet", "idle", "arrivals"])
    parser.add_argument("--out", type=Path, required=True, help="a JSON Lines file")
    parser.add_argument("--database", default="", help="a PostgreSQL server; else SQLite")
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--batch-seconds", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `idle` measures")
    given = parser.parse_args()
    parts: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
        "overhead": overhead,
        "fleet": fleet,
        "idle": idle,
        "arrivals": arrivals,
    }
    rows = [machine(1), *parts[given.part](given), {"kind": "load", "end": os.getloadavg()[0]}]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for row in rows:
        console.print(row)


class Fleet:
    """The processes of one version of the program on a new database."""

    def __init__(self, database: str, folder: Path, checkout: Path = ROOT) -> None:
        self.database = _new_database(database)
        self.variables = {
            **os.environ,
            "PYTHONPATH": f"{checkout / 'backend'}:{checkout}",
            "EACPS_DATA_DIR": str(folder),
            "EACPS_DATABASE_URL": self.database,
            "EACPS_HOST_NAME": "fleet",
        }
        self.settings = Settings(
            _env_file=None, data_dir=folder, database_url=self.database, host_name="fleet"
        )
        self.client = JobClient(self.settings)
        self.log = (folder / "log.txt").open("w")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, workers: int) -> None:
        """Start everything and wait until it is ready."""
        self._start("orchestrator")
        for slot in range(workers):
            self._start("worker", str(slot))
        while len(self.client.workers()) < workers + 1:
            self._require_life()
            time.sleep(0.2)

    def _start(self, *role: str) -> None:
        command = [sys.executable, str(PLAY), *role]
        self.processes.append(
            subprocess.Popen(command, env=self.variables, stdout=self.log, stderr=self.log)
        )

    def _require_life(self) -> None:
        if any(process.poll() is not None for process in self.processes):
            raise SystemExit(f"a process died:\n{Path(self.log.name).read_text()[-3000:]}")

    def run(self, jobs: Sequence[Job]) -> float:
        """Submit jobs and wait until all are done; returns the seconds."""
        before = self.delivered()
        start = time.monotonic()
        self.client.submit_many(jobs)
        while self.delivered() < before + len(jobs):
            self._require_life()
            time.sleep(0.1)
        return time.monotonic() - start

    def delivered(self) -> int:
        """The number of deliveries, asked for in the same way in every version."""
        records, _ = self.client._open()
        status = records.tables.status
        query = sa.select(sa.func.count()).where(
            status.c.name == "delivery", status.c.status == "SUCCESS"
        )
        with records.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def cpu_seconds(self) -> float:
        """CPU seconds of all processes so far."""
        times = [psutil.Process(process.pid).cpu_times() for process in self.processes]
        return sum(each.user + each.system for each in times)

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)
        self.client.close()
        self.log.close()


@contextmanager
def running(database: str, workers: int, checkout: Path = ROOT) -> Iterator[Fleet]:
    """A fleet that is ready, on a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(database, Path(folder), checkout)
        try:
            fleet.start(workers)
            yield fleet
        finally:
            fleet.close()


def _new_database(server: str) -> str:
    if not server:
        return ""
    url = sa.make_url(server).set(database=f"fleet_{uuid.uuid4().hex[:12]}")
    return url.render_as_string(hide_password=False)


def make_jobs(
    count: int,
    batches: int,
    seconds: float,
    *,
    rounds: bool = False,
    priority: int = BATCH_PRIORITY,
) -> list[Job]:
    """Jobs of so many batches each: all at once, or one after the other."""
    strategy, parameters = "best_of_n", {"n": batches}
    if rounds:
        strategy, parameters = "eacps", {"k": batches - 1, "m": 1, "k_local": 1}
    name = uuid.uuid4().hex[:8]
    return [
        Job(
            f"{name}-{number}",
            {
                "task": f"{name}-{number}",
                "seconds": seconds,
                "strategy": strategy,
                "parameters": parameters,
            },
            priority,
        )
        for number in range(count)
    ]


def overhead(given: argparse.Namespace) -> list[Row]:
    """Seconds per task that are not rendering: one worker, batches that take no time."""
    versions = {"this": ROOT, **({"other": given.against} if given.against else {})}
    rows: list[Row] = []
    for repeat in range(given.repeats):
        for name, checkout in versions.items():
            with running(given.database, 1, checkout) as fleet:
                fleet.run(make_jobs(5, 1, 0.0))
                for batches in (1, 8):
                    row = _measure(fleet, batches)
                    rows.append({"kind": "overhead", "version": name, "repeat": repeat, **row})
                    console.print(rows[-1])
    summaries: list[Row] = []
    for batches in (1, 8):
        medians = {
            name: statistics.median(
                row["seconds_per_task"]
                for row in rows
                if row["version"] == name and row["batches"] == batches
            )
            for name in versions
        }
        summary: Row = {"kind": "overhead summary", "batches": batches, **medians}
        if given.against:
            summary["ratio"] = round(medians["this"] / medians["other"], 3)
        summaries.append(summary)
    return rows + summaries


def _measure(fleet: Fleet, batches: int) -> Row:
    count = 60 if batches == 1 else 20
    cpu = fleet.cpu_seconds()
    seconds = fleet.run(make_jobs(count, batches, 0.0))
    return {
        "batches": batches,
        "tasks": count,
        "seconds_per_task": round(seconds / count, 4),
        "cpu_seconds_per_task": round((fleet.cpu_seconds() - cpu) / count, 4),
        "load": os.getloadavg()[0],
    }


def fleet(given: argparse.Namespace) -> list[Row]:
    """Many workers and tasks that are queued all at once, with default settings."""
    batches = 2
    ideal = given.tasks * batches * given.batch_seconds / given.workers
    with running(given.database, given.workers) as many:
        console.print(f"{given.workers} workers are ready; ideal: {ideal:.0f} s")
        # At 60 %, somebody who waits asks for an edit.
        cpu = many.cpu_seconds()
        jobs = make_jobs(given.tasks, batches, given.batch_seconds, rounds=True)
        start = time.monotonic()
        many.client.submit_many(jobs)
        queued = time.monotonic() - start
        waited = _somebody_waits(many, given.tasks, batches, given.batch_seconds)
        while many.delivered() < given.tasks + 1:
            time.sleep(1.0)
        seconds = time.monotonic() - start
        cpu = many.cpu_seconds() - cpu
    return [
        {
            "kind": "fleet",
            "workers": given.workers,
            "tasks": given.tasks,
            "batches": batches,
            "batch_seconds": given.batch_seconds,
            "ideal_seconds": ideal,
            "seconds": round(seconds, 1),
            "of_ideal": round(ideal / seconds, 3),
            "submit_seconds": round(queued, 1),
            "interactive_seconds": round(waited, 1),
            "cpu_cores": round(cpu / seconds, 2),
            "load": os.getloadavg(),
        }
    ]


def _somebody_waits(fleet: Fleet, tasks: int, batches: int, seconds: float) -> float:
    """How long an edit takes that is asked for by a person while the queue is full."""
    while fleet.delivered() < 0.6 * tasks:
        time.sleep(1.0)
    [job] = make_jobs(1, batches, seconds, rounds=True, priority=INTERACTIVE_PRIORITY)
    start = time.monotonic()
    fleet.client.submit(job)
    fleet.client.result(job.id, timeout=3600)
    return time.monotonic() - start


def arrivals(given: argparse.Namespace) -> list[Row]:
    """Searches that end each second, alone and while ten thousand tasks arrive."""
    with running(given.database, 1) as fleet:
        fleet.run(make_jobs(5, 1, 0.0))
        # These go first, so that the newcomers only cost what their arrival costs.
        fleet.client.submit_many(make_jobs(3000, 1, 0.0, priority=BATCH_PRIORITY - 1))
        time.sleep(5.0)
        before, began = fleet.delivered(), time.monotonic()
        time.sleep(ALONE_SECONDS)
        alone = (fleet.delivered() - before) / (time.monotonic() - began)
        before, began = fleet.delivered(), time.monotonic()
        fleet.client.submit_many(make_jobs(ARRIVING, 1, 0.0))
        seconds = time.monotonic() - began
        meanwhile = (fleet.delivered() - before) / seconds
    return [
        {
            "kind": "arrivals",
            "database": "postgres" if given.database else "sqlite",
            "arriving": ARRIVING,
            "submit_seconds": round(seconds, 1),
            "ended_per_second_alone": round(alone, 2),
            "ended_per_second_meanwhile": round(meanwhile, 2),
            "ratio": round(meanwhile / alone, 2),
            "load": os.getloadavg()[0],
        }
    ]


def idle(given: argparse.Namespace) -> list[Row]:
    """CPU and transactions of processes without work, and how soon a batch starts after that."""
    rows = []
    with running(given.database, 1) as fleet:
        time.sleep(10.0)
        cpu, commits = fleet.cpu_seconds(), _transactions(given.database, fleet)
        time.sleep(given.seconds)
        rows.append(
            {
                "kind": "idle",
                "database": "postgres" if given.database else "sqlite",
                "load": os.getloadavg()[0],
                "seconds": given.seconds,
                "cpu_percent_per_process": round(
                    100 * (fleet.cpu_seconds() - cpu) / given.seconds / 2, 2
                ),
                "transactions_per_second_and_process": round(
                    (_transactions(given.database, fleet) - commits) / given.seconds / 2, 2
                ),
            }
        )
        in_turn = [_first_batch_delay(fleet) for _ in range(40)]
        delays = sorted(in_turn)
        rows.append(
            {
                "kind": "first batch after silence",
                "silence": given.seconds,
                "after_the_silence": round(in_turn[0], 3),
                "delays": [round(delay, 3) for delay in delays],
                "p50": round(delays[len(delays) // 2], 3),
                "p95": round(delays[math.ceil(0.95 * len(delays)) - 1], 3),
                "worst": round(delays[-1], 3),
            }
        )
    return rows


def _first_batch_delay(fleet: Fleet) -> float:
    """Seconds from before a task is submitted until its batch begins."""
    [job] = make_jobs(1, 1, 0.0)
    submitted = time.time()
    fleet.client.submit(job)
    fleet.client.result(job.id, timeout=600)
    lines = (fleet.settings.data_dir / STARTS).read_text().splitlines()
    starts = dict(json.loads(line) for line in lines)
    time.sleep(1.5)
    return float(starts[job.id] - submitted)


def _transactions(server: str, fleet: Fleet) -> int:
    """Committed and rolled back transactions of the fleet's database."""
    if not server:
        return 0
    name = sa.make_url(fleet.database).database
    engine = sa.create_engine(sa.make_url(server).set(drivername="postgresql+psycopg"))
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = :name"
    with engine.connect() as connection:
        found: Mapping[str, Any] = {"name": name}
        number = connection.execute(sa.text(query), found).scalar_one()
    engine.dispose()
    return int(number)


if __name__ == "__main__":
    main()
