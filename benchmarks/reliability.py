"""Figures of docs/reliability.md: answer times with many jobs kept, idle cost, takeover.

Each part measures the whole product with `eacps serve`, an editor that costs next to nothing, and a
recording Label Studio. The raw results are kept as JSON Lines; the load of the machine is in each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import requests
import sqlalchemy as sa
from rich.console import Console

from eacps.jobs.database import database_url, open_engine
from tests.chaos.faults.checks import spread
from tests.chaos.faults.feed import Feeder
from tests.chaos.faults.label_studio import LABEL_CONFIG, PROJECT
from tests.chaos.faults.system import PASSWORD, USER, System
from tests.patience import PATIENCE, wait_until

console = Console()
REQUESTS = 300
LONGEST_PART_SECONDS = 12.0
SLOW_CLIENTS = 64
SLOW_ADDRESS = "127.0.0.2"
DRIP_SECONDS = 3.0
TEMPLATES = 10
TEXTS = ("inputs", "output")
PORTION = 2_000


def main() -> None:
    """Run the selected parts, and append their rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the rows")
    parser.add_argument("--only", choices=["answers", "idle", "takeover"], default=None)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--kept", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--silence", type=float, default=120, help="seconds before the part idle")
    parser.add_argument("--repeat", type=int, default=10, help="kills in the part takeover")
    given = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "answers": lambda: answers(given.database, given.kept),
        "idle": lambda: idle(given.database, given.silence),
        "takeover": lambda: takeover(given.database, given.repeat),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        if given.only not in (None, name):
            continue
        for row in part():
            whole = {**row, "database": given.database, **machine()}
            console.print(whole)
            with given.out.open("a") as file:
                file.write(json.dumps(whole) + "\n")


def machine() -> dict[str, Any]:
    """Where and when."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


@contextmanager
def running(database: str) -> Iterator[System]:
    """The whole product, ready for work."""
    system = System(database, small_disks=False)
    try:
        start(system)
        yield system
    except BaseException:
        console.print(system.log.read_text()[-3000:])
        raise
    finally:
        for host in system.hosts:
            host.stop()
        system.close()


def start(system: System) -> None:
    """Start it, again if need be."""
    client = system.client()

    def ready() -> bool:
        system.keep_running()
        fresh = [worker for worker in client.workers() if worker.age < 10]
        return len(fresh) >= 2 * len(system.hosts)

    wait_until(ready)
    wait_until(
        lambda: requests.get(f"{system.url}/health", timeout=PATIENCE).ok,
        forgiven=(requests.ConnectionError,),
    )
    client.close()


def answers(database: str, kept: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The times of the web process's answers, quiet and while slow clients hold connections."""
    with running(database) as system:
        feeder = Feeder(system, random.Random(1))
        known = [feeder.announce("ordinary") for _ in range(TEMPLATES)]
        wait_until(lambda: not feeder.unfinished())
        wait_until(lambda: _counts(system)["done"] == TEMPLATES)
        task = system.label_studio.tasks[known[0].number]
        there = TEMPLATES
        for count in kept:
            for host in system.hosts:
                host.stop()
            multiply(system, there, count)
            there = count
            start(system)
            assert sum(_counts(system).values()) >= count
            for condition in ("quiet", "slow clients"):
                with slow_clients(system, SLOW_CLIENTS if condition == "slow clients" else 0):
                    for name, ask in _questions(system, task).items():
                        yield {
                            "kind": "answers",
                            "jobs kept": count,
                            "condition": condition,
                            "request": name,
                            **_timed(ask),
                        }


def _counts(system: System) -> dict[str, int]:
    client = system.client()
    try:
        return dict(client.counts().items())
    finally:
        client.close()


def _questions(system: System, known: dict[str, Any]) -> dict[str, Callable[[], requests.Response]]:
    session = requests.Session()
    session.auth = (USER, PASSWORD)
    config = {"label_config": LABEL_CONFIG}

    def new() -> dict[str, Any]:
        # Refused in preparation, so that the worker stays idle.
        return system.label_studio.import_task({"prompt": "no image"})

    def get(path: str) -> Callable[[], requests.Response]:
        return lambda: session.get(f"{system.url}{path}", timeout=PATIENCE)

    def predict(task: Callable[[], dict[str, Any]]) -> Callable[[], requests.Response]:
        return lambda: session.post(
            f"{system.url}/predict",
            json={"tasks": [task()], "project": f"{PROJECT}.1", **config, "params": {}},
            timeout=PATIENCE,
        )

    def webhook() -> requests.Response:
        body = {"action": "TASKS_CREATED", "tasks": [new()], "project": {"id": PROJECT, **config}}
        return session.post(f"{system.url}/webhook", json=body, timeout=PATIENCE)

    return {
        "/health": get("/health"),
        "/webhook, a new task": webhook,
        "/predict, a known task": predict(lambda: known),
        "/predict, a new task": predict(new),
        "/status": get("/status"),
        "/status.json": get("/status.json"),
    }


def _timed(ask: Callable[[], requests.Response]) -> dict[str, Any]:
    """One request after the other, after a first one that does not count."""
    ask()
    seconds: list[float] = []
    statuses: set[int] = set()
    until = time.monotonic() + LONGEST_PART_SECONDS
    while len(seconds) < REQUESTS and time.monotonic() < until:
        began = time.perf_counter()
        statuses.add(ask().status_code)
        seconds.append(time.perf_counter() - began)
    ordered = sorted(1000 * value for value in seconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return {
        "requests": len(seconds),
        "statuses": sorted(statuses),
        "ms": {"p50": at(0.5), "p99": at(0.99), "worst": at(1)},
    }


@contextmanager
def slow_clients(system: System, count: int) -> Iterator[None]:
    """So many connections from another address, each of which sends a line every few seconds, and
    is opened again when it is closed."""
    stop = threading.Event()
    port = int(system.url.rpartition(":")[2])
    threads = [threading.Thread(target=_drip, args=(port, stop)) for _ in range(count)]
    for thread in threads:
        thread.start()
    if count:
        wait_until(lambda: _connections(port) >= count)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _drip(port: int, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            address = ("127.0.0.1", port)
            with socket.create_connection(address, source_address=(SLOW_ADDRESS, 0)) as made:
                made.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
                while not stop.wait(DRIP_SECONDS):
                    made.sendall(b"X-Slow: 1\r\n")
        except OSError:
            stop.wait(0.1)


def _connections(port: int) -> int:
    # Theirs are seen from both sides; the kernel knows, whatever process holds them.
    local, remote = f"{port:04X}", "0200007F"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:3] for line in lines]
    return sum(mine.endswith(f":{local}") and theirs.startswith(remote) for mine, theirs in ends)


def multiply(system: System, there: int, count: int) -> None:
    """Copy the stored rows of finished jobs until so many jobs are kept."""
    engine = open_engine(database_url(system.settings))
    tables = sa.MetaData(schema=None if system.postgres is None else "dbos")
    tables.reflect(engine)
    own = [table for table in tables.sorted_tables if "workflow_uuid" in table.c]
    with engine.begin() as connection:
        templates = _templates(connection, own)
        todo = [
            (list(templates)[number % len(templates)], f"{number:024x}")
            for number in range(there, count)
        ]
        for begin in range(0, len(todo), PORTION):
            for table in own:
                rows = [
                    _renamed(row, old, new)
                    for old, new in todo[begin : begin + PORTION]
                    for row in templates[old].get(table.name, ())
                ]
                if rows:
                    connection.execute(sa.insert(table), rows)
    if system.postgres:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _templates(
    connection: sa.Connection, tables: Sequence[sa.Table]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The rows of some finished jobs and of their deliveries, by job and table."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for table in tables:
        for row in connection.execute(sa.select(table)).mappings():
            kind, _, job = row["workflow_uuid"].partition(":")
            if kind in ("job", "delivery"):
                found.setdefault(job, {}).setdefault(table.name, []).append(dict(row))
    return dict(list(found.items())[:TEMPLATES])


def _renamed(row: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    copied = {**row, "workflow_uuid": row["workflow_uuid"].replace(old, new)}
    for name in TEXTS:
        if isinstance(copied.get(name), str):
            copied[name] = copied[name].replace(old, new)
    return copied


def idle(database: str, silence: float, seconds: float = 60.0) -> Iterator[dict[str, Any]]:
    """What the processes cost when nothing is to be done."""
    with running(database) as system:
        feeder = Feeder(system, random.Random(1))
        feeder.announce("ordinary")
        wait_until(lambda: not feeder.unfinished())
        time.sleep(silence)
        before, transactions = _cpu(system), _transactions(system)
        time.sleep(seconds)
        after, more = _cpu(system), _transactions(system)
        for name, used in after.items():
            yield {
                "kind": "idle",
                "seconds of silence": silence,
                "process": name,
                "percent of a core": round(100 * (used[0] - before[name][0]) / seconds, 2),
                "resident MB": round(used[1]),
            }
        if transactions is not None and more is not None:
            processes = sum(role != "supervisor" for _, role in _roles(system))
            yield {
                "kind": "idle",
                "process": "all",
                "hosts": len(system.hosts),
                "processes that use the database": processes,
                "transactions per second": round((more - transactions) / seconds, 1),
            }


def _roles(system: System) -> Iterator[tuple[str, str]]:
    for host in system.hosts:
        for role in ("supervisor", "web", "orchestrator", "worker"):
            if host.processes(role):
                yield host.name, role


def _cpu(system: System) -> dict[str, tuple[float, float]]:
    found = {}
    for host in system.hosts:
        for role in ("supervisor", "web", "orchestrator", "worker"):
            processes = host.processes(role)
            if processes:
                times = [process.cpu_times() for process in processes]
                memory = max(process.memory_info().rss for process in processes) / 1e6
                used = sum(one.user + one.system for one in times)
                found[f"{role} of the {host.name} host"] = (used, memory)
    return found


def _transactions(system: System) -> int | None:
    if system.postgres is None:
        return None
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'eacps'"
    with psycopg.connect(system.postgres.url) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else None


def takeover(database: str, repeat: int) -> Iterator[dict[str, Any]]:
    """From `kill -9` until the work goes on: a render starts, or a request is answered."""
    for role in ("worker", "orchestrator", "web", "everything"):
        seconds = []
        for _ in range(repeat):
            # Each on a fresh system: a supervisor waits longer for what dies again and again.
            with running(database) as system:
                seconds.append(_resumed_after(system, role))
        yield {"kind": "takeover", "killed": role, "seconds": spread(seconds)}
    if database == "postgres":
        gone = [_host_gone(system) for system in _each(database, repeat)]
        yield {"kind": "takeover", "killed": "a host, for good", "seconds": spread(gone)}


def _each(database: str, repeat: int) -> Iterator[System]:
    for _ in range(repeat):
        with running(database) as system:
            yield system


def _resumed_after(system: System, role: str) -> float:
    while len(system.hosts) > 1:
        # Another one would do the work meanwhile.
        system.hosts.pop().stop()
    feeder = Feeder(system, random.Random(1))
    for _ in range(3):
        feeder.announce("ordinary")
    wait_until(system.render_notes)
    for process in system.hosts[0].processes(role):
        process.send_signal(signal.SIGKILL)
    killed, wall = time.monotonic(), time.time()

    def goes_on() -> bool:
        system.keep_running()
        if role == "web":
            return requests.get(f"{system.url}/health", timeout=PATIENCE).ok
        own = (line for line in system.render_notes() if line["host"] == "first")
        return any(line["time"] > wall and line["event"] == "start" for line in own)

    if role == "orchestrator":
        # Batches that are queued go on without it.
        known = set(system.label_studio.tasks)

        def goes_on() -> bool:
            return any(system.label_studio.predictions_of(task) for task in known)

    wait_until(goes_on, forgiven=(requests.ConnectionError,))
    return time.monotonic() - killed


def _host_gone(system: System) -> float:
    """From the end of a host that renders until another one has started the same trial."""
    feeder = Feeder(system, random.Random(1))
    for _ in range(6):
        feeder.announce("ordinary")

    def rendering() -> dict[str, Any] | None:
        last = [line for line in system.render_notes() if line["host"] == "second"]
        return last[-1] if last and last[-1]["event"] == "start" else None

    wait_until(rendering)
    gone = system.hosts.pop()
    for process in gone.processes("everything"):
        process.send_signal(signal.SIGKILL)
    killed = time.time()
    lost = [line for line in system.render_notes() if line["host"] == "second"][-1]
    if lost["event"] != "start":
        # It ended in between: nothing had to be taken over.
        return 0.0

    def again() -> bool:
        system.keep_running()
        return any(
            line["host"] == "first" and line["event"] == "start" and line["time"] > killed
            and (line["key"], line["trial"]) == (lost["key"], lost["trial"])
            for line in system.render_notes()
        )  # fmt: skip

    wait_until(again)
    return time.time() - killed


if __name__ == "__main__":
    main()
