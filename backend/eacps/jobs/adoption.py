"""Restarts the unfinished work of earlier versions.

DBOS resumes a workflow only in the version that started it. We do not need that: a stored job or
outcome describes the work completely, and finished batches are found by name. So a release may
change the steps of a workflow without losing work.
"""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from eacps.domain import from_json
from eacps.jobs import names
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, exclusive_transaction, is_in_flight
from eacps.jobs.enqueueing import open_client

log = logging.getLogger(__name__)

LEADERS = (names.EDIT_TASK, names.SEARCH, names.DELIVERY)


def adopt(records: Records, stale_after: float) -> int:
    """Restart the unfinished work of earlier versions, and return how many jobs and deliveries.

    Work of a version that still has a running process is left alone.
    """
    if not _unfinished(records):
        return 0
    alive = records.alive(stale_after)
    client = open_client(records)
    with exclusive_transaction(records.engine) as connection:
        unfinished: dict[str, list[str]] = {}
        for identity, name, version in _unfinished(records, connection):
            role = "worker" if name == names.BATCH else "orchestrator"
            if version not in alive.get(role, {}).get("versions", ()):
                unfinished.setdefault(name, []).append(identity)
        # The jobs that need these searches and batches will request them again.
        disposable = [*unfinished.get(names.SEARCH, ()), *unfinished.get(names.BATCH, ())]
        records.delete(disposable, connection)
        jobs = _restart(records, connection, client, names.EDIT_TASK, unfinished)
        deliveries = _restart(records, connection, client, names.DELIVERY, unfinished)
    if jobs or deliveries or disposable:
        log.info("restarted work of an earlier version: %d jobs, %d deliveries", jobs, deliveries)
    return jobs + deliveries


def unfinished_jobs(records: Records) -> int:
    """The number of unfinished jobs and deliveries of earlier versions."""
    return sum(name in (names.EDIT_TASK, names.DELIVERY) for _, name, _ in _unfinished(records))


def _unfinished(
    records: Records, connection: sa.Connection | None = None
) -> list[tuple[str, str, str]]:
    """Id, name and version of the unfinished workflows of earlier versions."""
    if connection is None:
        with records.engine.connect() as opened:
            return _unfinished(records, opened)
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid, status.c.name, status.c.application_version).where(
        is_in_flight(status),
        status.c.name.in_((*LEADERS, names.BATCH)),
        status.c.application_version != names.VERSION,
    )
    rows = connection.execute(query).all()
    # Leave the work of newer versions, which this version may not understand.
    return [(row[0], row[1], row[2]) for row in rows if _is_earlier(row[2])]


def _is_earlier(version: str) -> bool:
    return version.isdecimal() and int(version) < int(names.VERSION)


def _restart(
    records: Records,
    connection: sa.Connection,
    client: DBOSClient,
    name: str,
    unfinished: dict[str, list[str]],
) -> int:
    rows = records.rows(unfinished.get(name, ()), connection, output=False)
    records.delete(rows, connection)
    for identity, row in rows.items():
        job = from_json(Job, _job_of(name, row.input))
        options = names.enqueue_options(name, identity, job.priority)
        client.enqueue_in_transaction(connection, options, row.input)
    return len(rows)


def _job_of(name: str, content: Any) -> Any:
    return content["job"] if name == names.DELIVERY else content
