"""The jobs database: made private and fast before use, and read in bulk."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS

from eacps.errors import EacpsError
from eacps.jobs import names
from eacps.jobs.codec import encode, refuse_pickle
from eacps.jobs.migration import add_missing_columns, migrated
from eacps.log import masked
from eacps.settings import Settings

CHUNK = 500
SUBMIT_LOCK = 7_262_113
_ready: set[str] = set()


class DatabaseError(EacpsError):
    """The jobs database cannot be opened."""

    code = "database_failed"


def database_url(settings: Settings) -> sa.URL:
    """The jobs database's address, with a driver that is installed."""
    url = sa.make_url(settings.resolved_database_url)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    return url


def url_text(url: sa.URL) -> str:
    """The address with its password, as drivers want it."""
    return url.render_as_string(hide_password=False)


def prepare(settings: Settings) -> sa.URL:
    """Create the database where it is missing, privately, and bring its tables up to date."""
    refuse_pickle()
    log_as_we_do()
    url = database_url(settings)
    if url_text(url) in _ready:
        return url
    try:
        migrated(url, partial(_migrate, url))
    except (OSError, sa.exc.SQLAlchemyError) as error:
        # SQLAlchemy adds lines about itself; the driver's first line is enough.
        told = masked(str(getattr(error, "orig", None) or error)).strip().split("\n")[0]
        raise DatabaseError(
            f"The jobs database cannot be opened: {told[:300].removesuffix('.')}.",
            hint="Check EACPS_DATABASE_URL, or EACPS_DATA_DIR.",
        ) from None
    _ready.add(url_text(url))
    return url


def _migrate(url: sa.URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database:
        _prepare_file(Path(url.database))
    DBOS.migrate(url_text(url))
    engine = open_engine(url)
    tables = Tables(engine)
    tables.own.create_all(engine)
    add_missing_columns(engine, tables.workers)
    engine.dispose()


def log_as_we_do() -> None:
    """Make DBOS' log lines look like ours, and leave out what nobody needs to read."""
    logger = logging.getLogger("dbos")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)
    if _worth_reading not in logger.filters:
        logger.addFilter(_worth_reading)


_IDLE = (
    "Waiting for the",
    "to verify existence of",
    # A finished batch of an earlier version, found by its name.
    "already exists in queue",
)


def _worth_reading(record: logging.LogRecord) -> bool:
    # A workflow that was cancelled, or deleted for a retry, is what somebody wanted; DBOS reports
    # it with a stack trace.
    error = record.exc_info[1] if record.exc_info else None
    wanted = ("DBOSAwaitedWorkflowCancelledError", "DBOSNonExistentWorkflowError")
    if type(error).__name__ in wanted:
        return False
    message = record.getMessage()
    return not any(idle in message for idle in _IDLE)


def _prepare_file(path: Path) -> None:
    # The journal files take their mode from this one; it holds tasks, and must not be shared.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    engine = open_engine(sa.URL.create("sqlite", database=str(path)))
    with engine.connect() as connection:
        # DBOS leaves the rollback journal on, under which readers and writers stop each other.
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()


def open_engine(url: sa.URL, pool_size: int = 5) -> sa.Engine:
    """A pool of connections that behave like DBOS' own."""
    engine = sa.create_engine(url, pool_size=pool_size, max_overflow=10, pool_pre_ping=True)
    if url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _tune_sqlite)
    return engine


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA foreign_keys=ON")


@contextmanager
def alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that no other transaction of this kind overlaps."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SUBMIT_LOCK)))
        yield connection


class Tables:
    """DBOS' tables (the columns that we read), and ours."""

    def __init__(self, engine: sa.Engine) -> None:
        schema = None if engine.dialect.name == "sqlite" else "dbos"

        def table(name: str, *columns: str) -> sa.TableClause:
            return sa.table(name, *map(sa.column, columns), schema=schema)

        self.status = table(
            "workflow_status", "workflow_uuid", "status", "name", "executor_id", "created_at",
            "updated_at", "completed_at", "output", "inputs", "owner_xid", "started_at_epoch_ms",
            "recovery_attempts", "application_version", "queue_name",
        )  # fmt: skip
        self.input = table("workflow_input", "workflow_uuid", "inputs")
        self.output = table("workflow_output", "workflow_uuid", "output")
        self.operations = table("operation_outputs", "workflow_uuid")
        self.events = table("workflow_events", "workflow_uuid", "key", "value")
        self.own = sa.MetaData()
        self.workers = sa.Table(
            "eacps_workers",
            self.own,
            sa.Column("name", sa.String(200), primary_key=True),
            sa.Column("role", sa.String(40), nullable=False),
            sa.Column("device", sa.String(80), nullable=False),
            sa.Column("pid", sa.Integer, nullable=False),
            sa.Column("beats", sa.BigInteger, nullable=False),
            sa.Column("started", sa.Float, nullable=False),
            sa.Column("seen", sa.Float, nullable=False),
            # 0.1 writes neither of these: both stay empty for its processes.
            sa.Column("version", sa.String(20)),
            sa.Column("equipment", sa.String(40)),
        )
        self.equipment = sa.Table(
            "eacps_equipment",
            self.own,
            sa.Column("name", sa.String(40), primary_key=True),
            sa.Column("words", sa.Text, nullable=False),
        )
        self.pictures = sa.Table(
            "eacps_pictures",
            self.own,
            sa.Column("key", sa.String(40), primary_key=True),
            sa.Column("content", sa.Text, nullable=False),
            sa.Column("used", sa.Float, nullable=False),
        )


@dataclass(frozen=True)
class Row:
    """One workflow as stored."""

    id: str
    status: str
    created: float
    updated: float
    completed: float | None
    input: Any
    output: Any

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in names.ENDED

    @property
    def good(self) -> bool:
        """Whether it ended and found nothing wrong."""
        return self.status == "SUCCESS" and not (self.output or {}).get("failure")


class Records:
    """Reads and deletes workflows of the jobs database."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.tables = Tables(engine)

    def status(self, *ids: str) -> dict[str, str]:
        """The stored statuses of these workflows; the missing are left out."""
        status = self.tables.status
        query = sa.select(status.c.workflow_uuid, status.c.status).where(
            status.c.workflow_uuid.in_(ids)
        )
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def rows(
        self, ids: Iterable[str], connection: sa.Connection | None = None, *, output: bool = True
    ) -> dict[str, Row]:
        """These workflows; the missing are left out."""
        status = self.tables.status
        found: dict[str, Row] = {}
        for chunk in chunks(ids):
            query = self._query(output).where(status.c.workflow_uuid.in_(chunk))
            found.update((row.id, row) for row in self._read(query, connection))
        return found

    def newest(self, name: str, limit: int) -> list[Row]:
        """Workflows of a name, newest first."""
        status = self.tables.status
        query = (
            self._query(True)
            .where(status.c.name == name)
            .order_by(status.c.created_at.desc(), status.c.workflow_uuid)
            .limit(limit)
        )
        return self._read(query)

    def batches(self, key: str, connection: sa.Connection) -> list[Row]:
        """The batches of a key."""
        uuid = self.tables.status.c.workflow_uuid
        prefix = names.batch_workflow(key, "")
        # The character after ":" ends the range, so that the primary key's index serves it.
        query = self._query(True).where(uuid >= prefix, uuid < f"{prefix[:-1]};")
        return [row for row in self._read(query, connection) if row.id.startswith(prefix)]

    def events(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The events of these workflows."""
        events = self.tables.events
        found: dict[str, dict[str, Any]] = {}
        with self.engine.connect() as connection:
            for chunk in chunks(ids):
                query = sa.select(events.c.workflow_uuid, events.c.key, events.c.value).where(
                    events.c.workflow_uuid.in_(chunk)
                )
                for workflow, key, value in connection.execute(query):
                    found.setdefault(workflow, {})[key] = json.loads(value)
        return found

    def waiting_for(self, key: str) -> list[str]:
        """Jobs' workflows that have not ended and need this key's search."""
        status, events = self.tables.status, self.tables.events
        query = (
            sa.select(status.c.workflow_uuid)
            .join(events, events.c.workflow_uuid == status.c.workflow_uuid)
            .where(
                events.c.key == names.KEY_EVENT,
                events.c.value == encode(key),
                status.c.name == names.EDIT_TASK,
                status.c.status.not_in(names.ENDED),
            )
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def forget(self, ids: Iterable[str], connection: sa.Connection) -> None:
        """Delete workflows with all that belongs to them."""
        for chunk in chunks(ids):
            for table in (self.tables.input, self.tables.output, self.tables.operations):
                connection.execute(sa.delete(table).where(table.c.workflow_uuid.in_(chunk)))
            uuid = self.tables.status.c.workflow_uuid
            connection.execute(sa.delete(self.tables.status).where(uuid.in_(chunk)))

    def forget_search(
        self, key: str, connection: sa.Connection, *, only_unsuccessful: bool = True
    ) -> None:
        """Delete an ended search that found nothing, but keep every batch without a failure.

        With `only_unsuccessful=False` a good search goes as well, with all its batches.
        """
        name = names.search_workflow(key)
        row = self.rows([name], connection).get(name)
        if row is not None and (not row.ended or (row.good and only_unsuccessful)):
            return
        unwanted = [
            batch.id
            for batch in self.batches(key, connection)
            if batch.ended and not (only_unsuccessful and _without_failure(batch))
        ]
        self.forget([name, *unwanted], connection)

    def describe_equipment(self, name: str, words: str) -> None:
        """Keep what an equipment's name stands for, for people who must provide it."""
        table = self.tables.equipment
        with alone(self.engine) as connection:
            connection.execute(sa.delete(table).where(table.c.name == name))
            connection.execute(sa.insert(table).values(name=name, words=words))

    def waiting_batches(self) -> dict[str, int]:
        """How many batches are queued for which equipment. Those of other versions of this
        program do not count: their jobs are started again after an upgrade."""
        status = self.tables.status
        prefix = names.device_queue("")
        query = (
            sa.select(status.c.queue_name, sa.func.count())
            .where(
                status.c.status == "ENQUEUED",
                status.c.name == names.BATCH,
                status.c.application_version == names.VERSION,
            )
            .group_by(status.c.queue_name)
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return {queue.removeprefix(prefix): count for queue, count in rows if queue}

    def keys_waiting_for(self, equipments: Iterable[str]) -> set[str]:
        """The keys of searches that have batches queued for any of these."""
        status = self.tables.status
        queues = [names.device_queue(equipment) for equipment in equipments]
        query = sa.select(status.c.workflow_uuid).where(
            status.c.status == "ENQUEUED",
            status.c.name == names.BATCH,
            status.c.queue_name.in_(queues),
        )
        with self.engine.connect() as connection:
            return {names.key_of(batch) for batch in connection.execute(query).scalars()}

    def equipment_words(self, equipments: Iterable[str]) -> dict[str, str]:
        """What these names stand for; the unknown are left out."""
        table = self.tables.equipment
        query = sa.select(table.c.name, table.c.words).where(table.c.name.in_(list(equipments)))
        with self.engine.connect() as connection:
            return {row.name: row.words for row in connection.execute(query)}

    def alive(self, stale_after: float) -> dict[str, dict[str, set[str]]]:
        """By role: the versions and the equipment of the processes that beat lately."""
        table = self.tables.workers
        query = sa.select(table.c.role, table.c.version, table.c.equipment).where(
            table.c.seen >= time.time() - stale_after
        )
        found: dict[str, dict[str, set[str]]] = {}
        with self.engine.connect() as connection:
            for role, version, equipment in connection.execute(query):
                own = found.setdefault(role, {"versions": set(), "equipment": set()})
                own["versions"].add(version or names.FIRST_VERSION)
                own["equipment"].add(equipment or "")
        return found

    def _query(self, output: bool) -> sa.Select[Any]:
        status, given, result = self.tables.status, self.tables.input, self.tables.output
        stored = sa.func.coalesce(result.c.output, status.c.output)
        return (
            sa.select(
                status.c.workflow_uuid,
                status.c.status,
                status.c.created_at,
                status.c.updated_at,
                status.c.completed_at,
                sa.func.coalesce(given.c.inputs, status.c.inputs),
                stored if output else sa.null(),
            )
            .select_from(status)
            .outerjoin(given, given.c.workflow_uuid == status.c.workflow_uuid)
            .outerjoin(result, result.c.workflow_uuid == status.c.workflow_uuid)
        )

    def _read(self, query: sa.Select[Any], connection: sa.Connection | None = None) -> list[Row]:
        if connection is None:
            with self.engine.connect() as opened:
                return self._read(query, opened)
        return [
            Row(
                id=workflow,
                status=status,
                created=created / 1000,
                updated=updated / 1000,
                completed=None if completed is None else completed / 1000,
                input=_argument(given),
                output=json.loads(output) if output else None,
            )
            for workflow, status, created, updated, completed, given, output in connection.execute(
                query
            )
        ]


def _argument(text: str | None) -> Any:
    """The one argument that each of our workflows takes."""
    arguments = json.loads(text)["args"] if text else []
    return arguments[0] if arguments else {}


def _without_failure(batch: Row) -> bool:
    candidates = (batch.output or {}).get("candidates", ())
    return batch.status == "SUCCESS" and not any(c.get("failure") for c in candidates)


def chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    """Ids in portions that every database takes."""
    remaining = iter(ids)
    while portion := list(islice(remaining, CHUNK)):
        yield portion


def now() -> float:
    """Seconds since the epoch; outside of workflows only."""
    return time.time()
