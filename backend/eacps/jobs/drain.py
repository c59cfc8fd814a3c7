"""Asks the processes of a machine to finish what they do and to exit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from eacps.errors import EacpsError
from eacps.jobs import names
from eacps.jobs.beats import Reaper
from eacps.jobs.database import Records, is_in_flight

POLL_SECONDS = 0.5


class CannotDrainError(EacpsError):
    """A process of the machine is of a version that cannot drain."""

    code = "cannot_drain"


@dataclass(frozen=True)
class Left:
    """A process that has not exited yet, and how many batches or deliveries it still runs."""

    name: str
    role: str
    unfinished: int


class Drain:
    """The draining of one machine."""

    def __init__(
        self,
        records: Records,
        host: str,
        stale_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._host = host
        self._reaper = Reaper("", stale_after, clock)
        self._stale_after = stale_after
        self.silent: set[str] = set()

    def progress(self) -> Iterator[list[Left]]:
        """Ask for it, and return what is left, again and again until nothing is."""
        while True:
            left = self.ask()
            yield left
            if not left:
                return
            time.sleep(POLL_SECONDS)

    def ask(self) -> list[Left]:
        """Ask all processes of the machine, also those that were restarted meanwhile."""
        table = self._records.tables.workers
        with self._records.engine.begin() as connection:
            rows = [
                row
                for row in connection.execute(sa.select(table).order_by(table.c.name))
                if row.name.rpartition("/")[0] == self._host
            ]
            self._require_known_versions(rows)
            connection.execute(
                sa.update(table)
                .where(table.c.name.in_([row.name for row in rows]), table.c.asked.is_(None))
                .values(asked=names.DRAIN)
            )
        beats = {row.name: row.beats for row in rows}
        # A process that was killed stays in the list; its work is taken over by others.
        self.silent |= set(self._reaper.dead(beats, set(beats)))
        return [
            Left(row.name, row.role, self._unfinished(row.name))
            for row in rows
            if row.name not in self.silent
        ]

    def _unfinished(self, name: str) -> int:
        kinds = (names.delivery_workflow(""), f"{names.BATCH}:")
        return sum(each.startswith(kinds) for each in self._records.pending_of(name))

    def _require_known_versions(self, rows: list[sa.Row[tuple[object, ...]]]) -> None:
        for row in rows:
            fresh = row.seen >= time.time() - self._stale_after
            if fresh and row.version in (None, names.FIRST_VERSION):
                raise CannotDrainError(
                    f"{row.name} is of version {names.FIRST_RELEASE}, which cannot drain.",
                    hint="Stop it with Ctrl-C or SIGTERM: it finishes its batch if that takes less "
                    "than 3 s, and otherwise hands it back. Nothing is lost.",
                )


def hosts(records: Records) -> list[str]:
    """The machines in the list of processes."""
    table = records.tables.workers
    with records.engine.connect() as connection:
        found = connection.execute(sa.select(table.c.name)).scalars()
        return sorted({name.rpartition("/")[0] for name in found})


def unfinished_jobs(records: Records) -> int:
    """The number of jobs that have not ended, or whose outcome has not been delivered."""
    status = records.tables.status
    kinds = (names.EDIT_TASK, names.DELIVERY)
    query = sa.select(sa.func.count()).where(status.c.name.in_(kinds), is_in_flight(status))
    with records.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())
