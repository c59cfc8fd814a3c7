"""Unfinished work of other versions of this program: started anew from its stored description.

DBOS continues a workflow only in the version that began it, step by step. We need no such care:
a job says itself what is to be done, an outcome what is to be delivered, and finished batches are
found by their names. So a release may change the steps of a workflow, and nothing is stranded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from eacps.domain import from_json
from eacps.jobs import names
from eacps.jobs.contract import INTERACTIVE_PRIORITY, Job
from eacps.jobs.database import Records, alone

log = logging.getLogger(__name__)

Enqueue = Callable[[sa.Connection, str, str, str, int, Mapping[str, object]], None]
"""Connection, workflow, queue, identity, priority, content."""
LEADERS = (names.EDIT_TASK, names.SEARCH, names.DELIVERY)


@dataclass(frozen=True)
class _Stranded:
    """One workflow of another version that nobody alive will go on with."""

    id: str
    name: str


def adopt(records: Records, alive: Mapping[str, set[str]], enqueue: Enqueue) -> int:
    """Take up what other versions left unfinished; returns how many jobs and deliveries it is.

    `alive` says, by role, of which versions processes are running: their work is left to them.
    """
    with alone(records.engine) as connection:
        stranded = [row for row in _unfinished(records, connection) if _is_ours(row, alive)]
        if not stranded:
            return 0
        adopted = 0
        by_name: dict[str, list[str]] = {}
        for row in stranded:
            by_name.setdefault(row.name, []).append(row.id)
        # Searches and batches are asked for again by the jobs that need them.
        disposable = [*by_name.get(names.SEARCH, ()), *by_name.get(names.BATCH, ())]
        records.forget(disposable, connection)
        for name in (names.EDIT_TASK, names.DELIVERY):
            adopted += _restarted(records, connection, by_name.get(name, ()), name, enqueue)
    log.info("took up %d jobs of another version", adopted)
    return adopted


@dataclass(frozen=True)
class _Row:
    id: str
    name: str
    version: str


def _unfinished(records: Records, connection: sa.Connection) -> list[_Row]:
    status = records.tables.status
    query = sa.select(status.c.workflow_uuid, status.c.name, status.c.application_version).where(
        status.c.status.in_((*names.QUEUED, "PENDING")),
        status.c.name.in_((*LEADERS, names.BATCH)),
        status.c.application_version != names.VERSION,
    )
    return [_Row(*row) for row in connection.execute(query)]


def _is_ours(row: _Row, alive: Mapping[str, set[str]]) -> bool:
    # What a newer version left is for the newer one: an older one may not understand it.
    if not row.version.isdecimal() or int(row.version) > int(names.VERSION):
        return False
    role = "worker" if row.name == names.BATCH else "orchestrator"
    return row.version not in alive.get(role, set())


def _restarted(
    records: Records,
    connection: sa.Connection,
    ids: Sequence[str],
    name: str,
    enqueue: Enqueue,
) -> int:
    rows = records.rows(ids, connection, output=False)
    records.forget(rows, connection)
    for identity, row in rows.items():
        content = row.input
        priority = from_json(Job, content["job"] if name == names.DELIVERY else content).priority
        enqueue(connection, name, _queue(name, priority), identity, priority, content)
    return len(rows)


def _queue(name: str, priority: int) -> str:
    if name == names.DELIVERY:
        return names.DELIVERY_QUEUE
    interactive = priority <= INTERACTIVE_PRIORITY
    return names.INTERACTIVE_QUEUE if interactive else names.JOBS_QUEUE
