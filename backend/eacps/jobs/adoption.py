"""Restarts the unfinished work of earlier versions.

DBOS resumes a workflow only in the version that started it. We do not need that: a stored job or
outcome describes the work completely, and finished batches are found by name. So a release may
change the steps of a workflow without losing work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient

from eacps.domain import from_json
from eacps.jobs import names
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, exclusive_transaction, is_in_flight
from eacps.jobs.enqueueing import open_client
from eacps.jobs.versions import LiveVersions, is_earlier

log = logging.getLogger(__name__)

LEADERS = (names.EDIT_TASK, names.SEARCH, names.DELIVERY)


class Adoption:
    """Restarts the unfinished work of earlier versions that have no running process."""

    def __init__(self, records: Records, stale_after: float) -> None:
        self._records = records
        self._versions = LiveVersions(stale_after)

    def __call__(self) -> int:
        """Restart what is due; returns the number of jobs and deliveries."""
        # Asked each time, because it watches the counters.
        alive = self._versions.of_roles(self._records)
        return adopt(self._records, alive)


def adopt(records: Records, alive: Mapping[str, Set[str]]) -> int:
    """Restart the unfinished work of earlier versions, and return how many jobs and deliveries.

    Work of a version that has a live process for it is left alone; `alive` has the versions by
    role.
    """
    if not _unfinished(records):
        return 0
    client = open_client(records)
    with exclusive_transaction(records.engine) as connection:
        unfinished: dict[str, list[str]] = {}
        for identity, name, version in _unfinished(records, connection):
            if version not in _who_needs(name, alive):
                unfinished.setdefault(name, []).append(identity)
        # The jobs that need these searches and batches will request them again.
        disposable = [*unfinished.get(names.SEARCH, ()), *unfinished.get(names.BATCH, ())]
        records.delete(disposable, connection)
        jobs = _restart(records, connection, client, names.EDIT_TASK, unfinished)
        deliveries = _restart(records, connection, client, names.DELIVERY, unfinished)
    if jobs or deliveries or disposable:
        log.info("restarted work of an earlier version: %d jobs, %d deliveries", jobs, deliveries)
    return jobs + deliveries


def _who_needs(name: str, alive: Mapping[str, Set[str]]) -> Set[str]:
    """The versions whose work of this kind is still needed."""
    orchestrators = alive.get("orchestrator", frozenset[str]())
    # A search that is still run by its orchestrator fails if its batches disappear.
    workers = alive.get("worker", frozenset[str]())
    return workers | orchestrators if name == names.BATCH else orchestrators


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
    return [(row[0], row[1], row[2]) for row in rows if is_earlier(row[2])]


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
