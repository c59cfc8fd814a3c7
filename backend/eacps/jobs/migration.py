"""Creates and migrates the tables of the jobs database, in one process at a time."""

from __future__ import annotations

import fcntl
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from eacps import __version__

LOCK = 7_262_114
LOCK_SECONDS = 120.0
ATTEMPTS = 5
MADE_BY = "made_by"
FIRST_MADE_BY = "0.1"
"""Versions before 0.2 did not note which one made the database."""
INSTALLATION = sa.Table(
    "eacps_installation",
    sa.MetaData(),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)
_RACES = ("already exists", "duplicate key", "tuple concurrently updated", "database is locked")


def run_migration(url: sa.URL, migrate: Callable[[], None]) -> None:
    """Run `migrate` under a lock; retry it if another program's migration interferes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _migration_lock(url):
                migrate()
            return
        except sa.exc.DBAPIError as error:
            # Other programs with DBOS, and our older versions, do not take this lock.
            if attempt == ATTEMPTS or not _is_race(error):
                raise
            time.sleep(random.uniform(0.1, 0.5) * attempt)  # noqa: S311 - spreads tries, no secret


def add_missing_columns(engine: sa.Engine, table: sa.Table) -> bool:
    """Add columns that a table from an earlier version lacks; returns whether it lacked any."""
    there = {column["name"] for column in sa.inspect(engine).get_columns(table.name)}
    missing = [column for column in table.columns if column.name not in there]
    quote = engine.dialect.identifier_preparer.quote
    with engine.begin() as connection:
        for column in missing:
            kind = column.type.compile(engine.dialect)
            connection.exec_driver_sql(
                f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {kind}"
            )
    return bool(missing)


def add_missing_indexes(engine: sa.Engine, table: sa.Table) -> None:
    """Create indexes that a table from an earlier version lacks."""
    there = {index["name"] for index in sa.inspect(engine).get_indexes(table.name)}
    for index in table.indexes:
        if index.name not in there:
            index.create(engine)


def note_maker(engine: sa.Engine, oldest: sa.Table) -> None:
    """Note which version made this database, unless it is known. Call this before `oldest`, the
    table that every version has, is created."""
    tables = sa.inspect(engine)
    if tables.has_table(INSTALLATION.name):
        return
    maker = FIRST_MADE_BY if tables.has_table(oldest.name) else __version__
    with engine.begin() as connection:
        INSTALLATION.create(connection)
        connection.execute(sa.insert(INSTALLATION).values(name=MADE_BY, value=maker))


@contextmanager
def _migration_lock(url: sa.URL) -> Iterator[None]:
    if url.get_backend_name() == "sqlite":
        with _file_lock(url):
            yield
        return
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    _create_database(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _acquire(connection)
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(LOCK)))


@contextmanager
def _file_lock(url: sa.URL) -> Iterator[None]:
    if not url.database or url.database == ":memory:":
        yield
        return
    path = Path(url.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.migration").open("w") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _acquire(connection: sa.Connection) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while not connection.execute(sa.select(sa.func.pg_try_advisory_lock(LOCK))).scalar():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"another process has been migrating the tables for {LOCK_SECONDS:.0f} s"
            )
        time.sleep(0.1)


def _create_database(engine: sa.Engine) -> None:
    try:
        with engine.connect():
            return
    except sa.exc.OperationalError as error:
        if "does not exist" not in str(error.orig):
            raise
    name = engine.dialect.identifier_preparer.quote(str(engine.url.database))
    maintenance = sa.create_engine(
        engine.url.set(database="postgres"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.pool.NullPool,
    )
    with maintenance.connect() as connection:
        try:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        except sa.exc.DBAPIError as error:
            if not _is_race(error):
                raise


def _is_race(error: sa.exc.DBAPIError) -> bool:
    return any(sign in str(error.orig) for sign in _RACES)
