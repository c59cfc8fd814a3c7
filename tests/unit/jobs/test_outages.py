"""Outages: what is away for now is told from what is wrong for good, and waited for."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import _sys_db

from eacps.artifacts import ArtifactStore, MissingArtifactError, StoreAwayError
from eacps.errors import RetryLaterError, TaskError
from eacps.jobs.outages import PatientStore, make_dbos_outlast_them, outage, outages, outlasting


class ServerError(Exception):
    """What psycopg raises, as far as it is looked at."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("host 10.0.0.7 is away")
        self.sqlstate = sqlstate


def of_postgres(sqlstate: str | None) -> sa.exc.DBAPIError:
    return sa.exc.OperationalError("SELECT secret", {}, ServerError(sqlstate))


def of_sqlite(text: str) -> sa.exc.DBAPIError:
    return sa.exc.OperationalError("SELECT secret", {}, sqlite3.OperationalError(text))


AWAY = [
    *(of_postgres(state) for state in (None, "08006", "57P01", "53100", "53300", "25006", "58030")),
    of_sqlite("database or disk is full"),
    of_sqlite("attempt to write a readonly database"),
    of_sqlite("disk I/O error"),
    of_sqlite("database is locked"),
    sa.exc.TimeoutError("pool"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EROFS, "Read-only file system"),
    StoreAwayError("The artifact store cannot be used: Connection refused."),
]
WRONG = [
    of_postgres("42P01"),
    of_postgres("57014"),
    of_sqlite("no such table: x"),
    sa.exc.IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE constraint failed")),
    FileNotFoundError(errno.ENOENT, "No such file"),
    MissingArtifactError("gone"),
    TaskError("no image"),
    RetryLaterError("Label Studio is away"),
    ValueError("database is locked"),
]


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_what_is_away_is_said_without_hosts_or_sql(error: Exception) -> None:
    words = outage(error)
    assert words
    assert not any(text in words for text in ("10.0.0.7", "SELECT", "secret"))


@pytest.mark.parametrize("error", WRONG, ids=repr)
def test_what_is_wrong_for_good_is_no_outage(error: Exception) -> None:
    assert outage(error) == ""


def failing(errors: list[Exception]) -> Callable[[], str]:
    def attempt() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    return attempt


def test_an_outage_is_waited_for_with_growing_pauses_and_known_meanwhile() -> None:
    waited: list[tuple[float, str]] = []
    attempt = failing([of_sqlite("disk is full")] * 8)
    patient = outlasting(attempt, sleep=lambda pause: waited.append((pause, outages.now())))
    assert patient() == "done"
    assert [pause for pause, _ in waited] == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert {words for _, words in waited} == {"the disk of the jobs database is full"}
    assert outages.now() == ""
    assert outages.seconds_since() >= 0


def test_any_other_error_passes_at_once() -> None:
    with pytest.raises(TaskError):
        outlasting(failing([of_sqlite("disk is full"), TaskError("wrong")]), sleep=lambda _: None)()
    assert outages.now() == ""


def test_a_store_that_comes_back_is_used(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = PatientStore(ArtifactStore(f"file://{root}"))
    root.write_text("in the way")

    def come_back() -> None:
        while not outages.now():
            time.sleep(0.01)
        root.unlink()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(come_back)
        assert store.get(store.put(b"picture", "png")) == b"picture"


def test_dbos_waits_for_a_full_disk_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, a workflow whose outcome cannot be written stays unfinished for ever."""
    for name in ("retriable_postgres_exception", "retriable_sqlite_exception"):
        monkeypatch.setattr(_sys_db, name, getattr(_sys_db, name))
    monkeypatch.setattr("time.sleep", lambda _: None)
    make_dbos_outlast_them()
    for error in (of_sqlite("database or disk is full"), of_postgres("25006")):
        assert _sys_db.db_retry()(failing([error, error]))() == "done"
    with pytest.raises(sa.exc.OperationalError):
        _sys_db.db_retry()(failing([of_sqlite("no such table: x")]))()
