"""Heartbeats, and the reaper that requeues the work of dead processes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from eacps import __version__
from eacps.jobs import names
from eacps.jobs.database import Records, is_running
from eacps.jobs.outages import outage, outages

log = logging.getLogger(__name__)

ADOPT_SECONDS = 30.0
"""How often unfinished work of earlier versions is looked for, which reads the whole queue."""
LAST_BEAT_SECONDS = 5.0


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


class StrayWork:
    """Requeues what is stored as running in this process although no thread runs it, because its
    outcome could not be stored."""

    def __init__(
        self,
        running: Callable[[], Collection[str]],
        requeue: Callable[[Collection[str]], object],
        after_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._running = running
        self._requeue = requeue
        self._after_seconds = after_seconds
        self._clock = clock
        self._since: dict[str, float] = {}

    def check(self, pending: Collection[str]) -> None:
        """Requeue those of our unfinished workflows that have not been running for long."""
        # Asked after `pending` was read, so that what just ended is only suspected.
        idle = set(pending) - set(self._running())
        moment = self._clock()
        self._since = {name: self._since.get(name, moment) for name in idle}
        stray = [
            name for name, since in self._since.items() if moment - since > self._after_seconds
        ]
        if stray:
            log.warning("%d workflows lost their thread and are requeued", len(stray))
            self._requeue(stray)


def beat(me: ProcessIdentity, records: Records, note: str, *, alive: bool = True) -> None:
    """Send one heartbeat; `note` says what the process waits for.

    Without `alive` it is only listed: others take over its work.
    """
    workers = records.tables.workers
    moment = time.time()
    with records.engine.begin() as connection:
        changed = connection.execute(
            sa.update(workers)
            .where(workers.c.name == me.name, workers.c.pid == os.getpid())
            .values(
                beats=workers.c.beats + int(alive),
                seen=moment,
                version=names.VERSION,
                release=__version__,
                equipment=me.equipment,
                note=note,
            )
        )
        if changed.rowcount:
            return
        # Continue the counter of a predecessor, which shows at once that the process is alive.
        before = connection.execute(
            sa.select(workers.c.beats).where(workers.c.name == me.name)
        ).scalar()
        connection.execute(sa.delete(workers).where(workers.c.name == me.name))
        connection.execute(
            sa.insert(workers).values(
                name=me.name,
                role=me.role,
                device=me.device,
                pid=os.getpid(),
                beats=(before or 0) + int(alive),
                started=moment,
                seen=moment,
                version=names.VERSION,
                release=__version__,
                equipment=me.equipment,
                note=note,
            )
        )


@dataclass(frozen=True)
class _Found:
    """What a heartbeat reads: the counters of all processes, who has unfinished work, this
    process' unfinished workflows, and whether it was asked to take no more."""

    beats: Mapping[str, int]
    owners: set[str]
    own: Collection[str]
    drain: bool


class Heartbeat(threading.Thread):
    """Sends heartbeats until stopped; optionally recovers dead processes and adopts older work."""

    def __init__(
        self,
        me: ProcessIdentity,
        records: Records,
        stale_after: float,
        recover: Callable[[list[str]], object] | None = None,
        adopt: Callable[[], object] | None = None,
        stray_work: StrayWork | None = None,
        drain: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._me = me
        self._records = records
        self._interval = min(5.0, stale_after / 4)
        self._reaper = Reaper(me.name, stale_after, time.monotonic)
        self._recover = recover
        self._adopt = adopt
        self._stray_work = stray_work
        self._drain = drain
        self._stopped = threading.Event()
        self._adopt_at = float("-inf")

    def run(self) -> None:
        """Send heartbeats and reap, also after the database was unavailable."""
        while not self._stopped.is_set():
            try:
                self.beat()
                self.check_work(time.monotonic())
            except sa.exc.SQLAlchemyError as error:
                # Also where nobody waits otherwise: DBOS outlasts most outages by itself.
                words = outage(error)
                if words:
                    outages.begin(words)
                else:
                    log.warning("heartbeat failed: %s", error)
            else:
                outages.end()
            self._stopped.wait(self._interval)
        outages.end()

    def check_work(self, moment: float) -> None:
        """Requeue what nobody works on any more."""
        found = self._look()
        if self._recover:
            for owner in self._reaper.dead(found.beats, found.owners):
                log.warning("%s is dead; its work is requeued", owner)
                self._recover([owner])
        if self._stray_work:
            self._stray_work.check(found.own)
        if found.drain:
            self._drain()
        if self._adopt and moment >= self._adopt_at:
            self._adopt_at = moment + ADOPT_SECONDS
            self._adopt()

    def beat(self) -> None:
        """Send one heartbeat."""
        beat(self._me, self._records, outages.now())

    def stop(self) -> None:
        """Stop, and remove this process from the list."""
        self._stopped.set()
        if self.is_alive():
            # A beat that is under way would put the process on the list again.
            self.join(LAST_BEAT_SECONDS)
        workers = self._records.tables.workers
        with self._records.engine.begin() as connection:
            connection.execute(sa.delete(workers).where(workers.c.name == self._me.name))

    def _look(self) -> _Found:
        """Read everything in one transaction: an idle fleet asks little of its database."""
        workers, status = self._records.tables.workers, self._records.tables.status
        running = sa.select(status.c.executor_id).where(is_running(status)).distinct()
        with self._records.engine.connect() as connection:
            rows = connection.execute(
                sa.select(workers.c.name, workers.c.beats, workers.c.asked)
            ).all()
            owners = set(connection.execute(running).scalars()) - {None}
            own = self._records.pending_of(self._me.name, connection)
        asked = next((row.asked for row in rows if row.name == self._me.name), None)
        beats = {row.name: row.beats for row in rows}
        return _Found(beats, owners, own, drain=asked == names.DRAIN)
