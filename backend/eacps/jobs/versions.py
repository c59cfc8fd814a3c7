"""Versions that run side by side: which of them are gone, and what waits for one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.contract import WaitingBatches, WorkerStatus
from eacps.jobs.database import Records, is_queued


class LiveVersions:
    """The versions whose processes live. It watches their counters, because clocks differ."""

    def __init__(self, stale_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_after = stale_after
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def of_roles(self, records: Records) -> dict[str, set[str]]:
        """The versions of live processes by role."""
        table = records.tables.workers
        query = sa.select(table.c.name, table.c.role, table.c.version, table.c.beats)
        with records.engine.connect() as connection:
            rows = connection.execute(query).all()
        moment = self._clock()
        found: dict[str, set[str]] = {}
        for row in rows:
            seen = self._seen.get(row.name)
            if seen is None or seen.beats != row.beats:
                seen = self._seen[row.name] = _Seen(row.beats, moment)
            else:
                seen.again += 1
            if not seen.is_gone(moment, self._stale_after):
                found.setdefault(row.role, set()).add(row.version or names.FIRST_VERSION)
        return found


@dataclass
class _Seen:
    """A counter as it was first seen, and how often it was seen unchanged."""

    beats: int
    since: float
    again: int = 0

    def is_gone(self, moment: float, stale_after: float) -> bool:
        # Once proves nothing: the database, or the whole machine, may have been away in between.
        return self.again > 1 and moment - self.since > stale_after


def is_earlier(version: str) -> bool:
    """Whether this version is older than ours."""
    return version.isdecimal() and int(version) < int(names.VERSION)


def waiting_for_versions(records: Records, workers: Sequence[WorkerStatus]) -> list[WaitingBatches]:
    """Batches that wait for a worker of their version, although an orchestrator of it runs their
    searches. Without that orchestrator, their jobs are taken over."""
    searching = {worker.version for worker in workers if worker.role == "orchestrator"}
    rendering = {worker.version for worker in workers if worker.role == "worker"}
    alone = searching - rendering - {names.VERSION}
    if not rendering or not alone:
        return []
    status = records.tables.status
    query = (
        sa.select(status.c.application_version, sa.func.count())
        .where(
            is_queued(status),
            status.c.name == names.BATCH,
            status.c.application_version.in_(alone),
        )
        .group_by(status.c.application_version)
    )
    with records.engine.connect() as connection:
        return [
            WaitingBatches("", "", count, "earlier version" if is_earlier(version) else "version")
            for version, count in connection.execute(query)
        ]
