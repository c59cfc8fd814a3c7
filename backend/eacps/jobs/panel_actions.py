"""What people asked for on review panels: remembered for limits, and so that no noise is drawn
twice while several searches of a task are under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from eacps.jobs.contract import Job, MakeJob, PanelLimits, PanelRequest, PanelToday
from eacps.jobs.database import Records, now

DAY_SECONDS: Final = 86_400.0


class PanelActions:
    """The requests in the jobs database."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._table = records.tables.panel_actions

    def number(self, job: str, connection: sa.Connection) -> int | None:
        """The number of a request that was stored before, or None."""
        query = sa.select(self._table.c.n).where(self._table.c.job == job)
        return connection.execute(query).scalar()

    def add(
        self,
        action: PanelRequest,
        limits: PanelLimits,
        least: int,
        make: MakeJob,
        connection: sa.Connection,
    ) -> Job:
        """Remember a request and make its job; raises PanelLimitError. Its number is `least` or
        more. The caller holds the lock of submissions, and stores the job."""
        limits.require_room(self.today(action.place, connection), 1, action.candidates)
        table = self._table
        query = sa.select(table.c.n, table.c.seeds).where(table.c.place == action.place)
        rows = connection.execute(query).all()
        number = max([least, *(row.n + 1 for row in rows)])
        others = frozenset(seed for row in rows for seed in json.loads(row.seeds))
        job, seeds = make(number, others)
        values: Mapping[str, Any] = {
            "job": action.job,
            "place": action.place,
            "action": action.action,
            "candidates": action.candidates,
            "n": number,
            "asked": now(),
            "seeds": json.dumps(list(seeds)),
        }
        connection.execute(sa.insert(table).values(values))
        return job

    def today(self, place: str, connection: sa.Connection) -> PanelToday:
        """What a task had within the last day."""
        table = self._table
        query = sa.select(sa.func.count(), sa.func.sum(table.c.candidates)).where(
            table.c.place == place, table.c.asked > now() - DAY_SECONDS
        )
        count, candidates = connection.execute(query).one()
        return PanelToday(int(count), int(candidates or 0))


def prune_actions(records: Records, connection: sa.Connection, before: float) -> None:
    """Forget requests from before a moment: their candidates are in the tasks."""
    table = records.tables.panel_actions
    connection.execute(sa.delete(table).where(table.c.asked < before))
