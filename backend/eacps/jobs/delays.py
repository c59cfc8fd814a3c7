"""How long jobs have been waiting. Only unfinished work is read, however much is kept."""

from __future__ import annotations

import time

import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.codec import encode
from eacps.jobs.contract import Delays
from eacps.jobs.database import Records

_STEPS = {names.EDIT_TASK: "prepare", names.DELIVERY: "deliver"}


def delays(records: Records) -> Delays:
    """The ages of the oldest queued job and delivery, and the number of jobs that are retried."""
    status = records.tables.status
    unfinished = (*names.QUEUED, "PENDING")
    with records.engine.connect() as connection:

        def oldest(name: str, *states: str) -> float:
            query = sa.select(sa.func.min(status.c.created_at)).where(
                status.c.name == name, status.c.status.in_(states)
            )
            created = connection.execute(query).scalar()
            return 0.0 if created is None else max(0.0, time.time() - created / 1000)

        return Delays(
            oldest_queued=oldest(names.EDIT_TASK, *names.QUEUED),
            oldest_delivery=oldest(names.DELIVERY, *unfinished),
            retrying=_retrying(records, connection),
        )


def _retrying(records: Records, connection: sa.Connection) -> dict[str, int]:
    """A workflow that waits to try again has a note."""
    status, events = records.tables.status, records.tables.events
    query = (
        sa.select(status.c.name, sa.func.count())
        .join(events, events.c.workflow_uuid == status.c.workflow_uuid)
        .where(
            status.c.status == "PENDING",
            status.c.name.in_(_STEPS),
            events.c.key == names.NOTE_EVENT,
            events.c.value != encode(""),
        )
        .group_by(status.c.name)
    )
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    return {step: found.get(name, 0) for name, step in _STEPS.items()}
