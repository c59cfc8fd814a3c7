"""Deletes old jobs, and files that nothing needs any more."""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa

from eacps.artifacts import NAME, ArtifactStore
from eacps.jobs import names
from eacps.jobs.codec import encode
from eacps.jobs.database import Records, exclusive_transaction, now
from eacps.jobs.pictures import delete_pictures


def prune(records: Records, days: float) -> int:
    """Delete jobs that ended this many days ago, and unneeded searches; returns how many jobs."""
    limit = int((now() - days * 86_400) * 1000)
    status = records.tables.status
    with records.engine.connect() as connection:
        query = sa.select(status.c.workflow_uuid, status.c.status).where(
            status.c.name == names.DELIVERY
        )
        unfinished = {name for name, state in connection.execute(query) if state not in names.ENDED}
        old = _ended_before(records, connection, names.EDIT_TASK, limit)
    jobs = [job for job in old if names.delivery_workflow(names.job_of(job)) not in unfinished]
    deliveries = [names.delivery_workflow(names.job_of(job)) for job in jobs]
    with exclusive_transaction(records.engine) as connection:
        records.delete([*jobs, *deliveries], connection)
        records.delete(_unneeded(records, connection, limit), connection)
        delete_pictures(records, connection, limit / 1000)
    return len(jobs)


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


def _ended_before(records: Records, connection: sa.Connection, name: str, limit: int) -> list[str]:
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid).where(
        status.c.name == name,
        status.c.status.in_(names.ENDED),
        sa.func.coalesce(status.c.completed_at, status.c.updated_at) <= limit,
    )
    return list(connection.execute(query).scalars())


def _unneeded(records: Records, connection: sa.Connection, limit: int) -> list[str]:
    events = records.tables.events
    needed = set(
        connection.execute(
            sa.select(events.c.value).where(events.c.key == names.KEY_EVENT)
        ).scalars()
    )

    def old_and_unneeded(name: str) -> list[str]:
        ended = _ended_before(records, connection, name, limit)
        return [workflow for workflow in ended if encode(names.key_of(workflow)) not in needed]

    return [*old_and_unneeded(names.SEARCH), *old_and_unneeded(names.BATCH)]
