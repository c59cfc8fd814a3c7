"""What must be true after everything has recovered."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import sqlalchemy as sa

from eacps.artifacts import PARTIAL
from eacps.jobs import names
from eacps.jobs.database import Records, database_url, open_engine
from eacps.labelstudio.tasks.origins import META
from tests.chaos.faults.feed import Fed, Feeder
from tests.chaos.faults.system import CANDIDATES, DATABASE_PASSWORD, PASSWORD, System
from tests.recorded_label_studio import TOKEN

LEAKS: Final = re.compile(
    r"SELECT |INSERT INTO|UPDATE \w|psycopg|sqlalchemy|sqlite3|OperationalError|Traceback|Errno"
    r"|127\.0\.0\.1|localhost|dbos"
)
CRASHED: Final = "worker_crashed"
TRIES_AFTER_KILLS = 3


def problems_of_tasks(system: System, feeder: Feeder) -> Iterator[str]:
    """Each task has its one true outcome, once."""
    posted = Counter(int(task) for kind, task in system.label_studio.writes if kind == "prediction")
    for fed in feeder.fed:
        outcome = feeder.outcome(fed)
        name = f"task {fed.number} ({fed.kind})"
        if outcome is None:
            yield f"lost: {name} shows nothing"
        elif outcome != fed.expected:
            said = system.label_studio.tasks[fed.number]["data"].get("report_md", "")
            yield f"wrong: {name} shows a {outcome}: {said[:300]!r}"
        elif outcome == "result":
            yield from _problems_of_result(system, fed, name)
        shown = len(system.label_studio.predictions_of(fed.number))
        if shown > 1 or posted[fed.number] > 1:
            yield f"doubled: {name} has {shown} predictions, {posted[fed.number]} were posted"


def _problems_of_result(system: System, fed: Fed, name: str) -> Iterator[str]:
    data = system.label_studio.tasks[fed.number]["data"]
    cards = data[META]["ranked"]
    files = {f"/data/upload/{file}" for file in _uploads(system)}
    gone = [url for url in data["gallery"] if url.split("/data/")[-1] not in _tails(files)]
    if gone:
        yield f"wrong: {name} shows pictures that were not uploaded: {gone[:2]}"
    least = 1 if fed.kind == "poison" else CANDIDATES - 1
    if not least <= len(cards) <= CANDIDATES:
        yield f"wrong: {name} shows {len(cards)} candidates"


def _uploads(system: System) -> Iterable[str]:
    for number, (name, _content) in system.label_studio.files.items():
        yield f"1/{number:08x}-{name}"


def _tails(urls: Iterable[str]) -> set[str]:
    return {url.split("/data/")[-1] for url in urls}


def problems_of_words(system: System) -> Iterator[str]:
    """Nothing that was delivered names hosts or SQL; no secret is anywhere."""
    for number, task in system.label_studio.tasks.items():
        shown = {name: value for name, value in task["data"].items() if name != "image"}
        found = LEAKS.search(json.dumps(shown))
        if found:
            yield f"leak: task {number} shows {_around(json.dumps(shown), found)!r}"
    found = LEAKS.search(json.dumps(system.label_studio.predictions))
    if found:
        text = json.dumps(system.label_studio.predictions)
        yield f"leak: a prediction says {_around(text, found)!r}"
    secrets = [TOKEN, PASSWORD, DATABASE_PASSWORD]
    log = system.log.read_text(errors="replace")
    stored = system.disk.folder / "url-secret"
    secrets += [stored.read_text().strip()] if stored.exists() else []
    yield from (f"leak: the log holds a secret ({number})"
                for number, secret in enumerate(secrets) if secret in log)  # fmt: skip


def _around(text: str, found: re.Match[str]) -> str:
    return text[max(0, found.start() - 80) : found.end() + 120]


def problems_of_jobs(system: System) -> Iterator[str]:
    """Every stored workflow has ended, and the database is whole."""
    engine = open_engine(database_url(system.settings))
    records = Records(engine)
    status = records.tables.status
    with engine.connect() as connection:
        open_ones = connection.execute(
            sa.select(status.c.workflow_uuid, status.c.status, status.c.executor_id).where(
                status.c.status.not_in(names.ENDED)
            )
        ).all()
    engine.dispose()
    for name, state, owner in open_ones:
        yield f"unfinished: {name} is {state} under {owner}"
    if system.postgres is None:
        connection_to_file = sqlite3.connect(system.disk.folder / "jobs.sqlite")
        for pragma in ("integrity_check", "foreign_key_check"):
            rows = connection_to_file.execute(f"PRAGMA {pragma}").fetchall()
            if rows not in ([], [("ok",)]):
                yield f"database: {pragma} says {rows[:3]}"
        connection_to_file.close()


def problems_of_files(system: System) -> Iterator[str]:
    """Every stored file is what its name says; nothing half-written outlives a prune."""
    for path in system.store.rglob("*.*"):
        if PARTIAL.fullmatch(path.name) or not path.is_file() or path.name == "ballast":
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest()[:40] != path.name.partition(".")[0]:
            yield f"damaged: {path.name}"
    done = system.command("jobs", "prune", "--days", "0")
    if done.returncode:
        yield f"prune failed: {(done.stdout + done.stderr)[-500:]}"
    for folder in (system.store, system.disk.folder):
        yield from (f"left over: {path}" for path in folder.rglob("*.part"))


def renders(system: System) -> dict[str, Any]:
    """How often work was repeated, and how long it stood still after its process died."""
    started: Counter[tuple[str, str]] = Counter()
    ended: Counter[tuple[str, str]] = Counter()
    open_starts: dict[tuple[str, str], dict[str, Any]] = {}
    waits: dict[str, list[float]] = {"the same host": [], "another host": []}
    for line in system.render_notes():
        trial = (line["key"], line["trial"])
        if line["event"] == "end":
            ended[trial] += 1
            open_starts.pop(trial, None)
            continue
        before = open_starts.get(trial)
        if before is not None and before["pid"] != line["pid"]:
            where = "the same host" if before["host"] == line["host"] else "another host"
            waits[where].append(round(line["time"] - before["time"], 2))
        started[trial] += 1
        open_starts[trial] = line
    return {
        "trials": len(started),
        "started again": sum(started.values()) - len(started),
        "rendered to the end again": sum(count - 1 for count in ended.values()),
        "from the start of an interrupted render to its next start, s": {
            where: spread(values) for where, values in waits.items()
        },
    }


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, 95th percentile and worst."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "worst": at(1)}


def delivered_again(system: System) -> dict[str, int]:
    """Writes to Label Studio that were repeated, which changes nothing there."""
    counts: dict[str, Counter[str]] = {}
    for kind, what in system.label_studio.writes:
        counts.setdefault(kind, Counter())[what] += 1
    return {kind: sum(count - 1 for count in found.values()) for kind, found in counts.items()}
