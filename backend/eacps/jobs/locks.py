"""Locks by name among all processes that share a jobs database."""

from __future__ import annotations

import fcntl
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from eacps.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

FILES: Final = 64
"""Two names may share a lock, which does no harm."""
NAMED_LOCKS: Final = 2**34
"""Above the locks of database.py."""


class NamedLocks:
    """Locks that end with the process that holds them, also by kill -9.

    With SQLite, whose processes all run on one machine, they are files; with PostgreSQL, locks of a
    connection: not of a transaction, because they may be held for as long as an upload takes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._engine: sa.Engine | None = None

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Wait for a lock, and hold it."""
        number = zlib.crc32(name.encode())
        if self._settings.resolved_database_url.startswith("sqlite"):
            with self._file(number):
                yield
        else:
            with self._connection(number):
                yield

    @contextmanager
    def _file(self, number: int) -> Iterator[None]:
        folder = self._settings.data_dir / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"named-{number % FILES}.lock").open("w") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield

    @contextmanager
    def _connection(self, number: int) -> Iterator[None]:
        import sqlalchemy as sa

        with self._open().connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(NAMED_LOCKS + number)))
            try:
                yield
            finally:
                # Closing the connection also ends the lock.
                connection.invalidate()

    def _open(self) -> sa.Engine:
        from eacps.jobs.database import database_url, open_engine

        with self._opening:
            if self._engine is None:
                opened = open_engine(database_url(self._settings), pool_size=1)
                self._engine = opened.execution_options(isolation_level="AUTOCOMMIT")
            return self._engine
