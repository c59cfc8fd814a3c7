"""Unfinished work of other versions of this program: started anew from its stored description.

DBOS continues a workflow only in the version that began it, step by step. We need no such care:
a job says itself what is to be done, an outcome what is to be delivered, and finished batches are
found by their names. So a release may change the steps of a workflow, and nothing is stranded.
"""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from eacps.domain import from_json
from eacps.jobs import names
from eacps.jobs.codec import JsonSerializer
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, alone

log = logging.getLogger(__name__)

LEADERS = (names.EDIT_TASK, names.SEARCH, names.DELIVERY)


def adopt(records: Records, stale_after: float) -> int:
    """Take up what earlier versions left unfinished, except where a process of that version is
    still running; returns how many jobs and deliveries were started anew."""
    if not _unfinished(records):
        return 0
    alive = records.alive(stale_after)
    client = DBOSClient(
        system_database_engine=records.engine,
        serializer=JsonSerializer(),
        application_name=names.APPLICATION,
        lazy=True,
    )
    with alone(records.engine) as connection:
        stranded: dict[str, list[str]] = {}
        for identity, name, version in _unfinished(records, connection):
            role = "worker" if name == names.BATCH else "orchestrator"
            if version not in alive.get(role, {}).get("versions", ()):
                stranded.setdefault(name, []).append(identity)
        # Searches and batches are asked for again by the jobs that need them.
        disposable = [*stranded.get(names.SEARCH, ()), *stranded.get(names.BATCH, ())]
        records.forget(disposable, connection)
        jobs = _restarted(records, connection, client, names.EDIT_TASK, stranded)
        deliveries = _restarted(records, connection, client, names.DELIVERY, stranded)
    if jobs or deliveries or disposable:
        log.info("took up work of an earlier version: %d jobs, %d deliveries", jobs, deliveries)
    return jobs + deliveries


def unfinished_jobs(records: Records) -> int:
    """How many jobs and deliveries of earlier versions wait to be taken up."""
    return sum(name in (names.EDIT_TASK, names.DELIVERY) for _, name, _ in _unfinished(records))


def _unfinished(
    records: Records, connection: sa.Connection | None = None
) -> list[tuple[str, str, str]]:
    """Identity, name and version of what earlier versions have not ended."""
    if connection is None:
        with records.engine.connect() as opened:
            return _unfinished(records, opened)
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid, status.c.name, status.c.application_version).where(
        status.c.status.in_((*names.QUEUED, "PENDING")),
        status.c.name.in_((*LEADERS, names.BATCH)),
        status.c.application_version != names.VERSION,
    )
    rows = connection.execute(query).all()
    # What a newer version left is for the newer one: this one may not understand it.
    return [(row[0], row[1], row[2]) for row in rows if _is_earlier(row[2])]


def _is_earlier(version: str) -> bool:
    return version.isdecimal() and int(version) < int(names.VERSION)


def _restarted(
    records: Records,
    connection: sa.Connection,
    client: DBOSClient,
    name: str,
    stranded: dict[str, list[str]],
) -> int:
    rows = records.rows(stranded.get(name, ()), connection, output=False)
    records.forget(rows, connection)
    for identity, row in rows.items():
        job = from_json(Job, _job_of(name, row.input))
        options = names.enqueue_options(name, identity, job.priority)
        client.enqueue_in_transaction(connection, options, row.input)
    return len(rows)


def _job_of(name: str, content: Any) -> Any:
    return content["job"] if name == names.DELIVERY else content
