"""Deletes old jobs, and files that nothing needs any more."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from pathlib import Path

import sqlalchemy as sa

from eacps.artifacts import NAME, ArtifactStore
from eacps.jobs import names
from eacps.jobs.database import CHUNK, Records, exclusive_transaction, now
from eacps.jobs.job_index import JobIndex
from eacps.jobs.panel_actions import prune_actions
from eacps.jobs.pictures import delete_pictures
from eacps.jobs.subjects import forget_subjects

DAY_SECONDS = 86_400.0


def prune(records: Records, days: float) -> int:
    """Delete jobs that ended this many days ago, and unneeded searches; returns how many jobs."""
    limit = now() - days * DAY_SECONDS
    index = JobIndex(records)
    number = 0
    while jobs := index.ended_before(limit, CHUNK):
        # In portions, so that searching goes on meanwhile.
        with exclusive_transaction(records.engine) as connection:
            unfinished = _unfinished_deliveries(records, connection, jobs)
            gone = [job for job in jobs if names.delivery_workflow(job) not in unfinished]
            records.delete(map(names.job_workflow, gone), connection)
            records.delete(map(names.delivery_workflow, gone), connection)
            forget_subjects(records, gone, connection)
        number += len(gone)
        if not gone:
            break
    for name in (names.SEARCH, names.BATCH):
        _delete_unneeded(records, index, name, int(limit * 1000))
    with exclusive_transaction(records.engine) as connection:
        delete_pictures(records, connection, limit)
        prune_actions(records, connection, limit)
    return number


def _unfinished_deliveries(
    records: Records, connection: sa.Connection, jobs: Sequence[str]
) -> set[str]:
    """The deliveries of these jobs that are under way: somebody has just asked for them again."""
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid).where(
        status.c.workflow_uuid.in_(list(map(names.delivery_workflow, jobs))),
        status.c.status.not_in(names.ENDED),
    )
    return set(connection.execute(query).scalars())


def _delete_unneeded(records: Records, index: JobIndex, name: str, limit: int) -> None:
    """Delete what ended before and belongs to no job that is kept."""
    after = (-1, "")
    while old := _ended_before(records, name, limit, after):
        with exclusive_transaction(records.engine) as connection:
            keys = {names.key_of(workflow) for _, workflow in old}
            needed = index.keys_in_use(keys, connection)
            unneeded = [flow for _, flow in old if names.key_of(flow) not in needed]
            records.delete(unneeded, connection)
        after = old[-1]


def _ended_before(
    records: Records, name: str, limit: int, after: tuple[int, str]
) -> list[tuple[int, str]]:
    """The next workflows that ended before, oldest first."""
    status = records.tables.status
    completed, workflow = status.c.completed_at, status.c.workflow_uuid
    query = (
        sa.select(completed, workflow)
        .where(
            completed <= limit,
            # Not a comparison of pairs, which would not use the index.
            completed >= after[0],
            sa.or_(completed > after[0], workflow > after[1]),
            status.c.name == name,
            status.c.status.in_(names.ENDED),
        )
        .order_by(completed, workflow)
        .limit(CHUNK)
    )
    with records.engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def prune_notes(folder: Path, store: ArtifactStore, older_than_seconds: float) -> int:
    """Delete old notes about artifacts that are gone; returns how many. The name of a note begins
    with that of its artifact; other names are those of earlier versions."""
    if not folder.is_dir():
        return 0
    limit, removed = time.time() - older_than_seconds, 0
    for path in list(folder.iterdir()):
        artifact = NAME.match(path.name)
        if path.stat().st_mtime < limit and not (artifact and store.exists(artifact[0])):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def prune_files(
    store: ArtifactStore, older_than_seconds: float, needed: Set[str], *, keep_shown: bool = True
) -> int:
    """Delete old artifacts except those that a kept job needs or that somebody shows; returns how
    many."""
    shown = store.shown() if keep_shown else set()
    return store.prune(older_than_seconds, keep=needed | shown)


def needed_files(records: Records, older_than_seconds: float = 0.0) -> set[str]:
    """The files of this age with values of jobs that are kept: a job may wait for longer than files
    are kept."""
    # A file is stored shortly before its job. Clocks may differ.
    created = int((now() - older_than_seconds + DAY_SECONDS) * 1000)
    status, given = records.tables.status, records.tables.input
    inputs = sa.func.coalesce(given.c.inputs, status.c.inputs)
    query = (
        sa.select(inputs)
        .select_from(status)
        .outerjoin(given, given.c.workflow_uuid == status.c.workflow_uuid)
        .where(
            status.c.created_at <= created,
            status.c.name.in_((names.EDIT_TASK, names.DELIVERY)),
            inputs.like('%"file"%'),
        )
    )
    with records.engine.connect() as connection:
        rows = connection.execution_options(yield_per=500).execute(query).scalars()
        return {found[0] for text in rows for found in NAME.finditer(text)}
