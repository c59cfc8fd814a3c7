"""Heartbeats, and the reaper that requeues the work of dead processes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.database import Records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessIdentity:
    """The identity of this process in the jobs database."""

    name: str
    role: str
    device: str
    equipment: str = ""


class Reaper:
    """Detects dead processes. It times their counters itself, because clocks differ."""

    def __init__(self, me: str, stale_after: float, clock: Callable[[], float]) -> None:
        self._me = me
        self._stale_after = stale_after
        self._clock = clock
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._last = clock()

    def dead(self, beats: Mapping[str, int], owners: set[str]) -> list[str]:
        """The owners of unfinished work whose counter has not changed for too long."""
        moment = self._clock()
        if moment - self._last > self._stale_after / 2:
            # This process was suspended or the database was down, so this gap proves nothing.
            self._seen.clear()
        self._last = moment
        gone = []
        for owner in owners - {self._me}:
            count, since = self._seen.get(owner, (None, moment))
            if owner not in self._seen or beats.get(owner) != count:
                self._seen[owner] = (beats.get(owner), moment)
            elif moment - since > self._stale_after:
                gone.append(owner)
                del self._seen[owner]
        return gone


class Heartbeat(threading.Thread):
    """Sends heartbeats until stopped; optionally recovers dead processes and adopts older work."""

    def __init__(
        self,
        me: ProcessIdentity,
        records: Records,
        stale_after: float,
        recover: Callable[[list[str]], object] | None = None,
        adopt: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._me = me
        self._records = records
        self._interval = min(5.0, stale_after / 4)
        self._reaper = Reaper(me.name, stale_after, time.monotonic)
        self._recover = recover
        self._adopt = adopt
        self._stopped = threading.Event()

    def run(self) -> None:
        """Send heartbeats and reap, also after the database was unavailable."""
        while not self._stopped.is_set():
            try:
                self.beat()
                if self._recover:
                    self._reap(self._recover)
                if self._adopt:
                    self._adopt()
            except sa.exc.SQLAlchemyError as error:
                log.warning("heartbeat failed: %s", error)
            self._stopped.wait(self._interval)

    def beat(self) -> None:
        """Send one heartbeat."""
        workers = self._records.tables.workers
        moment = time.time()
        with self._records.engine.begin() as connection:
            changed = connection.execute(
                sa.update(workers)
                .where(workers.c.name == self._me.name, workers.c.pid == os.getpid())
                .values(
                    beats=workers.c.beats + 1,
                    seen=moment,
                    version=names.VERSION,
                    equipment=self._me.equipment,
                )
            )
            if changed.rowcount:
                return
            # Continue the counter of a predecessor, which shows at once that the process is alive.
            before = connection.execute(
                sa.select(workers.c.beats).where(workers.c.name == self._me.name)
            ).scalar()
            connection.execute(sa.delete(workers).where(workers.c.name == self._me.name))
            connection.execute(
                sa.insert(workers).values(
                    name=self._me.name,
                    role=self._me.role,
                    device=self._me.device,
                    pid=os.getpid(),
                    beats=(before or 0) + 1,
                    started=moment,
                    seen=moment,
                    version=names.VERSION,
                    equipment=self._me.equipment,
                )
            )

    def stop(self) -> None:
        """Stop, and remove this process from the list."""
        self._stopped.set()
        workers = self._records.tables.workers
        with self._records.engine.begin() as connection:
            connection.execute(sa.delete(workers).where(workers.c.name == self._me.name))

    def _reap(self, recover: Callable[[list[str]], object]) -> None:
        workers, status = self._records.tables.workers, self._records.tables.status
        with self._records.engine.connect() as connection:
            rows = connection.execute(sa.select(workers.c.name, workers.c.beats))
            beats = {row.name: row.beats for row in rows}
            pending = sa.select(status.c.executor_id).where(status.c.status == "PENDING")
            owners = set(connection.execute(pending.distinct()).scalars()) - {None}
        for owner in self._reaper.dead(beats, owners):
            log.warning("%s is dead; its work is requeued", owner)
            recover([owner])
