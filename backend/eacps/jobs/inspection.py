"""`eacps doctor --deep`: is everything readable that is stored? Nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

import sqlalchemy as sa
from pydantic import ValidationError

from eacps.artifacts import ArtifactStore, FileState
from eacps.domain import SearchResult, from_json
from eacps.jobs import names
from eacps.jobs.contract import Job
from eacps.jobs.database import Records
from eacps.jobs.losses import shown

State = Literal["ok", "warn", "fail"]
Remark = tuple[State, str]
OnProgress = Callable[[int, int], None]
"""Called with how many files of how many were read."""

AT_ONCE: Final = 16
"""Files that are read at the same time, because a store with a network answers late."""
NAMED: Final = 5
"""So many jobs are named in a message."""


def inspect_database(records: Records) -> Iterator[Remark]:
    """Whether the jobs database is whole, table by table."""
    if records.engine.dialect.name == "sqlite":
        yield _sqlite_integrity(records)
    for table in _tables(records):
        with records.engine.connect() as connection:
            # Reads each row, unlike a count.
            query = sa.select(sa.text("*")).select_from(table)
            rows = connection.execution_options(yield_per=500).execute(query)
            count = sum(1 for _ in rows)
        yield "ok", f"{count:,} rows of {table.name} are readable"
    orphans = _orphans(records)
    if orphans:
        yield "warn", f"{orphans:,} rows belong to no workflow. They do no harm."


def _tables(records: Records) -> Sequence[Any]:
    found = records.tables
    return (
        found.status, found.input, found.output, found.operations, found.events,
        found.workers, found.equipment, found.pictures, found.panel_actions,
    )  # fmt: skip


def _sqlite_integrity(records: Records) -> Remark:
    try:
        with records.engine.connect() as connection:
            check = connection.exec_driver_sql("PRAGMA integrity_check(5)")
            answers = list(check.scalars())
    except sa.exc.DatabaseError as error:
        answers = [error.orig]
    if answers == ["ok"]:
        return "ok", "SQLite's own check found nothing"
    problems = "; ".join(" ".join(str(answer).split()) for answer in answers)[:300]
    return "fail", (
        f"SQLite says: {problems}. Stop the backend, and restore a backup of the file, or move it "
        "away and let Label Studio announce its tasks again."
    )


def _orphans(records: Records) -> int:
    status = records.tables.status
    known = sa.select(status.c.workflow_uuid)
    count = 0
    with records.engine.connect() as connection:
        for table in (records.tables.input, records.tables.output, records.tables.events):
            query = sa.select(sa.func.count()).select_from(table)
            without = query.where(table.c.workflow_uuid.not_in(known))
            count += connection.execute(without).scalar_one()
    return count


@dataclass
class Needs:
    """The files that kept jobs need, each with one of its jobs, and the unreadable jobs."""

    files: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def needs(records: Records) -> Needs:
    """The files that the kept jobs and their results name."""
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid).where(status.c.name == names.EDIT_TASK)
    with records.engine.connect() as connection:
        workflows = iter(list(connection.execute(query).scalars()))
    found = Needs()
    while chunk := list(islice(workflows, 200)):
        _add_needs(records, chunk, found)
    return found


def _add_needs(records: Records, workflows: Sequence[str], found: Needs) -> None:
    events = records.events(workflows)
    searches = {
        names.search_workflow(own[names.KEY_EVENT]): workflow
        for workflow, own in events.items()
        if names.KEY_EVENT in own
    }
    for workflow, row in records.rows(workflows, output=False).items():
        job = names.job_of(workflow)
        try:
            files = [value.file for value in from_json(Job, row.input).large]
        except ValidationError:
            found.unreadable.append(job)
            continue
        found.files.update(dict.fromkeys(files, job))
    for search, row in records.rows(searches).items():
        if not row.good:
            continue
        job = names.job_of(searches[search])
        try:
            result = from_json(SearchResult, row.output["result"])
        except (ValidationError, KeyError, TypeError):
            found.unreadable.append(job)
            continue
        task = result.task
        own = [task.image, task.mask, *task.references, *task.regions]
        found.files.update(dict.fromkeys(filter(None, [*own, *shown(result)]), job))


def inspect_store(records: Records, store: ArtifactStore, progress: OnProgress) -> Iterator[Remark]:
    """Whether every file is there and undamaged that a kept job needs or a task shows."""
    needed = needs(records)
    if needed.unreadable:
        yield (
            "fail",
            (
                f"{len(needed.unreadable):,} jobs cannot be read ({_some(needed.unreadable)}). "
                "Cancel them with `eacps jobs cancel JOB`, and open their tasks in Label Studio."
            ),
        )
    owners = store.shown_by_owner()
    of_owners = {name: owner for owner, files in owners.items() for name in files}
    states = _states(store, of_owners.keys() | needed.files.keys(), progress)
    yield from _verdicts(states, needed.files, of_owners)
    yield _leftovers(store, states.keys())


def _states(store: ArtifactStore, files: Set[str], progress: OnProgress) -> dict[str, FileState]:
    found: dict[str, FileState] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = iter(sorted(files))
        # In portions: after Ctrl-C nothing is waited for but those.
        while portion := list(islice(waiting, 8 * AT_ONCE)):
            found |= dict(zip(portion, pool.map(store.check, portion), strict=True))
            progress(len(found), len(files))
    return found


def _verdicts(
    states: Mapping[str, FileState], of_jobs: Mapping[str, str], of_owners: Mapping[str, str]
) -> Iterator[Remark]:
    size = sum(state.size for state in states.values())
    counts = Counter(state.verdict for state in states.values())
    summary = f"{len(states):,} files ({size / 1e6:,.1f} MB) are needed"
    lost = [name for name, state in states.items() if state.verdict != "intact"]
    if not lost:
        yield "ok", f"{summary}, and all of them are intact"
        return
    jobs = sorted({of_jobs[name] for name in lost if name in of_jobs})
    tasks = sorted({of_owners[name] for name in lost if name in of_owners and name not in of_jobs})
    words = f"{summary}: {counts['missing']:,} are missing, {counts['damaged']:,} are damaged"
    if jobs:
        yield (
            "fail",
            (
                f"{words}. {len(jobs):,} jobs need them ({_some(jobs)}): `eacps jobs restart JOB` "
                "renders only what is lost, and delivers again."
            ),
        )
    if tasks:
        numbers = [owner.rpartition("-")[2] for owner in tasks]
        yield (
            "fail",
            (
                f"{words}. {len(tasks):,} tasks whose jobs are no longer kept show them "
                f"({_some(numbers)}): change their data, or let them be searched again."
            ),
        )


def _leftovers(store: ArtifactStore, needed: Set[str]) -> Remark:
    count = size = 0
    for name, bytes_ in store.sizes():
        if name not in needed:
            count, size = count + 1, size + bytes_
    return "ok", (
        f"{count:,} other files ({size / 1e6:,.1f} MB): previews, and what finished jobs left. "
        "They are deleted when they are older than EACPS_RETENTION_DAYS."
    )


def _some(given: Sequence[str]) -> str:
    more = f" and {len(given) - NAMED:,} more" if len(given) > NAMED else ""
    return ", ".join(given[:NAMED]) + more
