"""How long jobs have been waiting. Only unfinished work is read, however much is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.codec import encode
from eacps.jobs.contract import Delays
from eacps.jobs.database import Records

_STEPS: Final = {names.EDIT_TASK: "prepare", names.DELIVERY: "deliver"}
_QUEUES: Final = (names.JOBS_QUEUE, names.INTERACTIVE_QUEUE, names.DELIVERY_QUEUE)
_IN_FLIGHT: Final = ("ENQUEUED", "PENDING")


def delays(records: Records) -> Delays:
    """The ages of the oldest queued job and delivery, and the number of jobs that are retried."""
    with records.engine.connect() as connection:
        since = _since(records, connection)
        return Delays(
            oldest_queued=_age(since.get((names.EDIT_TASK, "ENQUEUED"))),
            oldest_delivery=max(_age(since.get((names.DELIVERY, state))) for state in _IN_FLIGHT),
            retrying=_retrying(records, connection),
        )


def _age(created: int | None) -> float:
    return 0.0 if created is None else max(0.0, time.time() - created / 1000)


def _since(records: Records, connection: sa.Connection) -> dict[tuple[str, str], int]:
    """When the oldest unfinished workflow was created, by name and status."""
    status = records.tables.status
    query = (
        # The sum keeps SQLite from walking through all rows in the order of their creation.
        sa.select(status.c.name, status.c.status, sa.func.min(status.c.created_at + 0))
        .where(_among(status.c.status, _IN_FLIGHT), _among(status.c.queue_name, _QUEUES))
        .group_by(status.c.name, status.c.status)
    )
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


def _retrying(records: Records, connection: sa.Connection) -> dict[str, int]:
    """A workflow that waits to try again has a note."""
    status, events = records.tables.status, records.tables.events
    query = (
        sa.select(status.c.name, sa.func.count())
        .join(events, events.c.workflow_uuid == status.c.workflow_uuid)
        .where(
            _among(status.c.status, ("PENDING",)),
            status.c.name.in_(_STEPS),
            events.c.key == names.NOTE_EVENT,
            events.c.value != encode(""),
        )
        .group_by(status.c.name)
    )
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    return {step: found.get(name, 0) for name, step in _STEPS.items()}


def _among(column: sa.ColumnElement[str], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """Written into the query, because a partial index is used only if its condition is seen."""
    if len(values) == 1:
        return column == sa.bindparam(None, values[0], literal_execute=True)
    return column.in_(sa.bindparam(None, list(values), expanding=True, literal_execute=True))
