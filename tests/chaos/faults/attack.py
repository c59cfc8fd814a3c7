"""What goes wrong, chosen from a seed: processes are killed and frozen, services are away."""

from __future__ import annotations

import math
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from tests.chaos.faults.label_studio import WAYS
from tests.chaos.faults.system import Host, System

ROLES: Final[Mapping[str, int]] = {
    "worker": 30, "orchestrator": 26, "web": 14, "supervisor": 8, "everything": 12,
}  # fmt: skip
KINDS: Final[Mapping[str, int]] = {
    "kill": 66, "freeze": 8, "database": 8, "store": 5, "disk": 4, "label studio": 9,
}  # fmt: skip
SHORTEST_SECONDS = 0.1
IN_A_ROW = (4, 12)
LONGEST_REST_SECONDS = 20.0
"""After some faults in a row, the next ones wait until work has gone on: what is killed while it
starts proves little."""


@dataclass
class Event:
    """Something that was done, with the length of what lasts."""

    kind: str
    what: str
    began: float
    seconds: float = 0.0
    pids: list[int] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "seconds": round(self.seconds, 2)}


@dataclass
class _Outage:
    event: Event
    ends: float
    end: Callable[[], object]


class Attack:
    """Does the next thing whenever it is time."""

    def __init__(
        self, system: System, chance: random.Random, *, pause: float, longest: float
    ) -> None:
        self._system = system
        self._chance = chance
        self._pause = pause
        self._longest = longest
        self._next = 0.0
        self._left = chance.randint(*IN_A_ROW)
        self._rest_until = 0.0
        self._progress = 0
        self._going_on: dict[str, _Outage] = {}
        self.events: list[Event] = []

    def step(self, progress: int) -> None:
        """End what has lasted long enough, and begin what is due."""
        moment = time.monotonic()
        for name in [name for name, one in self._going_on.items() if moment >= one.ends]:
            self._end(name)
        if progress > self._progress:
            self._rest_until = 0.0
        if moment >= max(self._next, self._rest_until):
            # Drawn first, so that the choice does not depend on what happens to be running.
            self._next = moment + self._chance.expovariate(1 / self._pause)
            seed = self._chance.random()
            (kind,) = self._chance.choices(list(KINDS), list(KINDS.values()))
            self._begin(kind, random.Random(seed))
            self._left -= 1
            if self._left == 0:
                self._left = self._chance.randint(*IN_A_ROW)
                self._rest_until = moment + LONGEST_REST_SECONDS
                self._progress = progress

    def end(self) -> None:
        """Let everything recover."""
        for name in list(self._going_on):
            self._end(name)

    def _begin(self, kind: str, chance: random.Random) -> None:
        host = chance.choice(self._system.hosts)
        if kind == "kill":
            self._kill(host, chance)
        elif kind == "freeze":
            self._freeze(host, chance)
        elif kind in self._going_on:
            return
        elif kind == "label studio":
            way = chance.choice(WAYS)
            studio = self._system.label_studio
            self._last(kind, way, chance, lambda: studio.fail(way), lambda: studio.fail(""))
        else:
            ways = {"database": self._database, "store": self._store, "disk": self._disk}[kind]()
            if ways:
                what = chance.choice(list(ways))
                self._last(kind, what, chance, *ways[what])

    def _kill(self, host: Host, chance: random.Random) -> None:
        (role,) = chance.choices(list(ROLES), list(ROLES.values()))
        killed = host.processes(role)
        if not killed:
            return
        event = Event("kill", role, time.time())
        for process in killed:
            if _send(process, signal.SIGKILL):
                event.pids.append(process.pid)
        self.events.append(event)

    def _freeze(self, host: Host, chance: random.Random) -> None:
        role = chance.choice(list(ROLES))
        name = f"freeze {host.name} {role}"
        frozen = host.processes(role)
        if name in self._going_on or not frozen:
            return

        def begin() -> None:
            for process in frozen:
                _send(process, signal.SIGSTOP)

        def end() -> None:
            for process in frozen:
                _send(process, signal.SIGCONT)

        self._last(name, role, chance, begin, end, kind="freeze", most=40.0)
        self.events[-1].pids = [process.pid for process in frozen]

    def _last(
        self,
        name: str,
        what: str,
        chance: random.Random,
        begin: Callable[[], object],
        end: Callable[[], object],
        *,
        kind: str = "",
        most: float = math.inf,
    ) -> None:
        longest = min(self._longest, most)
        seconds = SHORTEST_SECONDS * (longest / SHORTEST_SECONDS) ** chance.random()
        event = Event(kind or name, what, time.time())
        if begin() is False:
            return
        self.events.append(event)
        self._going_on[name] = _Outage(event, time.monotonic() + seconds, end)

    def _end(self, name: str) -> None:
        outage = self._going_on[name]
        if outage.end() is False:
            # Not possible at this moment, such as mounting while a file is open.
            return
        del self._going_on[name]
        outage.event.seconds = time.time() - outage.event.began

    def _database(self) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
        server = self._system.postgres
        if server is None:
            return {"locked": self._locked()}
        return {
            "crash": (server.crash, server.resume),
            "restart": (server.stop, server.resume),
            "read-only": (lambda: server.set_read_only(True), lambda: server.set_read_only(False)),
            "no connections": (server.use_up_connections, server.free_connections),
            "connections cut": (server.end_connections, lambda: None),
            "frozen": (lambda: server.freeze(True), lambda: server.freeze(False)),
        }

    def _locked(self) -> tuple[Callable[[], object], Callable[[], object]]:
        held: list[sqlite3.Connection] = []

        def begin() -> bool:
            path = self._system.disk.folder / "jobs.sqlite"
            connection = sqlite3.connect(path, timeout=1, isolation_level=None)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error:
                # Somebody writes, or the disk is full.
                connection.close()
                return False
            held.append(connection)
            return True

        return begin, lambda: held.pop().close()

    def _store(self) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
        system = self._system
        ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "not a folder": (system.break_store, system.mend_store)
        }
        if system.store_disk.mounted:
            disk = system.store_disk
            ways["empty"] = (system.take_store_away, system.put_store_back)
            ways["full"] = (disk.fill, disk.free)
            ways["read-only"] = (
                lambda: disk.set_read_only(True),
                lambda: disk.set_read_only(False),
            )
        return ways

    def _disk(self) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
        disk = self._system.disk
        return {"full": (disk.fill, disk.free)} if disk.mounted else {}


def _send(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True
