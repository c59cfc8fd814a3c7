"""What judges answered and what that took, in a file of the data folder.

Without the file (a full disk, another program's lock) judging goes on: answers are asked for again,
but limits then refuse, because what was spent is unknown.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eacps.verifiers.language.services.contract import Usage

log = logging.getLogger(__name__)

FILE: Final = "judgements.sqlite"
BUSY_SECONDS: Final = 20.0
DAY: Final = 86_400.0
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, content TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS answers_at ON answers (at);
CREATE TABLE IF NOT EXISTS spent (
    day TEXT, project TEXT, task TEXT, judge TEXT,
    calls INTEGER NOT NULL DEFAULT 0, read INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL DEFAULT 0, cost REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (day, project, task, judge)
);
CREATE INDEX IF NOT EXISTS spent_task ON spent (task);
CREATE INDEX IF NOT EXISTS spent_project ON spent (project);
"""
_ADD: Final = """
INSERT INTO spent (day, project, task, judge, calls, read, written, cost)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, project, task, judge) DO UPDATE SET
    calls = calls + excluded.calls, read = read + excluded.read,
    written = written + excluded.written, cost = cost + excluded.cost
"""


_opened: weakref.WeakValueDictionary[Path, Storage] = weakref.WeakValueDictionary()


def opened() -> list[Storage]:
    """Every account that judges of this process keep, once for each file."""
    return list(_opened.values())


class LimitError(Exception):
    """A limit of EACPS_JUDGE_LIMITS is reached."""


@dataclass(frozen=True)
class Account:
    """For whom a judge is asked."""

    task: str
    project: str
    judge: str


class Storage:
    """Answers by key, and an account of calls, tokens and cost. Safe for threads and processes."""

    def __init__(self, folder: Path, *, keep_days: float, limits: Mapping[str, float]) -> None:
        self._path = folder / FILE
        self._keep_days = keep_days
        self._limits = limits
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        _opened[self._path.resolve()] = self

    def recall(self, key: str) -> Any:
        """What was kept under this key; None if nothing was, or it cannot be read."""
        if not self._keep_days:
            return None
        with suppress(sqlite3.Error, OSError, ValueError), self._connected() as connection:
            found = connection.execute("SELECT content FROM answers WHERE key = ?", (key,))
            row = found.fetchone()
            return None if row is None else json.loads(row[0])
        return None

    def keep(self, key: str, content: Any) -> None:
        """Keep an answer."""
        if not self._keep_days:
            return
        try:
            with self._connected() as connection:
                values = (key, json.dumps(content), time.time())
                connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", values)
        except (sqlite3.Error, OSError) as error:
            log.warning("an answer of a judge cannot be kept: %s", error)

    def reserve(self, account: Account) -> None:
        """Count a call before it is made; raises LimitError where a limit forbids it."""
        try:
            with self._connected() as connection:
                self._check(connection, account)
                connection.execute(_ADD, (*_row(account), 1, 0, 0, 0.0))
        except (sqlite3.Error, OSError) as error:
            log.warning("the account of judges cannot be kept: %s", error)
            if self._limits:
                raise LimitError(f"what was spent cannot be read ({error})") from None

    def spend(self, account: Account, usage: Usage, cost: float) -> None:
        """Count what a call took."""
        try:
            with self._connected() as connection:
                connection.execute(_ADD, (*_row(account), 0, usage.read, usage.written, cost))
        except (sqlite3.Error, OSError) as error:
            log.warning("the account of judges cannot be kept: %s", error)

    def spent_on(self, task: str) -> dict[str, float]:
        """What was spent on one task."""
        query = "SELECT sum(calls), sum(read), sum(written), sum(cost) FROM spent WHERE task = ?"
        names = ("calls", "read", "written", "cost")
        with suppress(sqlite3.Error, OSError), self._connected() as connection:
            row = connection.execute(query, (task,)).fetchone()
            return {name: value or 0 for name, value in zip(names, row, strict=True)}
        return dict.fromkeys(names, 0.0)

    def totals(self) -> list[dict[str, Any]]:
        """What was spent, by day, project and judge; the newest day first."""
        query = (
            "SELECT day, project, judge, count(DISTINCT task) AS tasks, sum(calls) AS calls, "
            "sum(read) AS read, sum(written) AS written, sum(cost) AS cost FROM spent "
            "GROUP BY day, project, judge ORDER BY day DESC, project, judge"
        )
        if not self._path.is_file():
            return []
        with self._connected() as connection:
            rows = connection.execute(query)
            names = [column[0] for column in rows.description]
            return [dict(zip(names, row, strict=True)) for row in rows]

    def _check(self, connection: sqlite3.Connection, account: Account) -> None:
        values = {"day": _today(), "task": account.task, "project": account.project}
        for name, limit in self._limits.items():
            what, _, span = name.partition("_per_")
            column = {"calls": "calls", "tokens": "read + written", "cost": "cost"}[what]
            query = f"SELECT total({column}) FROM spent WHERE {span} = ?"  # noqa: S608 - our words
            (spent,) = connection.execute(query, (values[span],)).fetchone()
            if spent >= limit:
                raise LimitError(f"{name} is {limit:g} (EACPS_JUDGE_LIMITS), and is reached")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The connection, in a transaction of its own; a fork opens another one."""
        with self._lock:
            if self._connection is None or self._process != os.getpid():
                self._connection, self._process = self._open(), os.getpid()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        # What a power failure loses is asked again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_TABLES)
        oldest = time.time() - self._keep_days * DAY
        connection.execute("DELETE FROM answers WHERE at < ?", (oldest,))
        return connection


def _row(account: Account) -> tuple[str, str, str, str]:
    return (_today(), account.project, account.task, account.judge)


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())
