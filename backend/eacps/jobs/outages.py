"""What is away for now, told apart from what is wrong for good: decided here and nowhere else.

An outage of ours (the jobs database, the artifact store, a full disk) is never the result of a
job. Whoever meets one waits until it is over, and does the same again.
"""

from __future__ import annotations

import errno
import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, ParamSpec, TypeVar

import sqlalchemy as sa
from dbos import _sys_db
from dbos._utils import retriable_postgres_exception, retriable_sqlite_exception

from eacps import metrics
from eacps.artifacts import ArtifactStore, StoreAwayError
from eacps.errors import EacpsError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_PAUSE_SECONDS: Final = 15.0

_DISK: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk cannot be read or written",
    errno.ESTALE: "a network file system is away",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
_SQLITE: Final = {
    "database is locked": "the jobs database is locked",
    "database table is locked": "the jobs database is locked",
    "disk is full": "the disk of the jobs database is full",
    "disk I/O error": "the disk of the jobs database cannot be read or written",
    "readonly database": "the jobs database is read-only",
    "unable to open database": "the jobs database cannot be opened",
}
_POSTGRES: Final = {
    # Classes of SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
    "08": "the jobs database is away",
    "53": "the jobs database has no room or no connection left",
    "57": "the jobs database is away",
    "58": "the jobs database's server cannot use its disk",
    "40P01": "the jobs database is busy",
    # Somebody cancelled the query: that is an answer.
    "57014": "",
    "25006": "the jobs database is read-only",
    "25P03": "the jobs database ended the connection",
}


def outage(error: BaseException) -> str:
    """What is away, in words without hosts or SQL; empty when the error is not an outage."""
    if isinstance(error, StoreAwayError):
        return error.message.rstrip(".")
    if isinstance(error, sa.exc.TimeoutError):
        return "the jobs database has no connection left"
    if isinstance(error, sa.exc.DBAPIError):
        return _of_database(error)
    if isinstance(error, OSError) and not isinstance(error, EacpsError):
        return _DISK.get(error.errno or 0, "")
    return ""


def _of_database(error: sa.exc.DBAPIError) -> str:
    if error.connection_invalidated:
        return _POSTGRES["08"]
    driver = error.orig
    if isinstance(driver, sqlite3.Error):
        found = (words for text, words in _SQLITE.items() if text in str(driver))
        return next(found, "")
    state = getattr(driver, "sqlstate", None)
    if state:
        return _POSTGRES.get(state, _POSTGRES.get(state[:2], ""))
    # Without a state the server never answered: the connection could not be made, or broke.
    lost = isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))
    return _POSTGRES["08"] if lost else ""


class Outages:
    """What this process waits for now; others may ask, to show it or to be patient themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}
        self._last_end = float("-inf")
        self._began = 0.0

    def now(self) -> str:
        """What is waited for, in words; empty when nothing is."""
        with self._lock:
            return next(iter(self._waiting.values()), "")

    def seconds_since(self) -> float:
        """How long ago the last wait ended; 0 while one lasts."""
        with self._lock:
            return 0.0 if self._waiting else time.monotonic() - self._last_end

    def begin(self, words: str) -> None:
        """The calling thread waits for this."""
        with self._lock:
            if words not in self._waiting.values():
                log.warning("waiting: %s", words)
            if not self._waiting:
                self._began = time.monotonic()
                metrics.OUTAGES.inc()
                metrics.WAITING.set(1)
            self._waiting[threading.get_ident()] = words

    def end(self) -> None:
        """The calling thread waits no longer."""
        with self._lock:
            if self._waiting.pop(threading.get_ident(), None) is not None:
                self._last_end = time.monotonic()
                if not self._waiting:
                    seconds = self._last_end - self._began
                    log.info("going on, after %.0f s of waiting", seconds)
                    metrics.OUTAGE_SECONDS.inc(seconds)
                    metrics.WAITING.set(0)


outages: Final = Outages()


def outlasting(
    function: Callable[P, T], sleep: Callable[[float], None] = time.sleep
) -> Callable[P, T]:
    """The same function, which is tried again for as long as an outage lasts. It must be safe to
    repeat; every other error passes."""

    @functools.wraps(function)
    def patient(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            for pause in _pauses():
                try:
                    return function(*arguments, **named)
                except Exception as error:
                    words = outage(error)
                    if not words:
                        raise
                    outages.begin(words)
                sleep(pause)
            raise AssertionError("pauses never end")
        finally:
            outages.end()

    return patient


def _pauses() -> Iterator[float]:
    pause = 0.5
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class PatientStore(ArtifactStore):
    """An artifact store that waits until it can be used, for work that nobody waits for."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store.url)

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes, as soon as that is possible."""
        return outlasting(super().put)(content, suffix)

    def get(self, name: str) -> bytes:
        """The bytes of an artifact, as soon as the store can be read."""
        return outlasting(super().get)(name)

    def exists(self, name: str) -> bool:
        """Whether the artifact is there, as soon as the store can be asked."""
        return outlasting(super().exists)(name)


def make_dbos_outlast_them() -> None:
    """DBOS waits while a connection is lost or SQLite is locked; for a full disk or a database
    that is read-only for a while it would give up, and leave a workflow that never ends."""

    def also(known: Callable[[Any], bool]) -> Callable[[Any], bool]:
        return lambda error: known(error) or bool(outage(error))

    for known in (retriable_postgres_exception, retriable_sqlite_exception):
        setattr(_sys_db, known.__name__, also(known))
