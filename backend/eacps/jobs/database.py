"""The jobs database: setup, tables and bulk queries."""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS

from eacps.errors import EacpsError
from eacps.jobs import names, triggers
from eacps.jobs.codec import encode, refuse_pickle
from eacps.jobs.migration import (
    add_missing_columns,
    add_missing_indexes,
    note_maker,
    run_migration,
)
from eacps.log import masked
from eacps.settings import Settings

CHUNK = 500
SUBMIT_LOCK = 7_262_113
INDEX_LOCK = 7_262_115
SEARCH_LOCKS = 2**33
_ready: set[str] = set()


class DatabaseError(EacpsError):
    """The jobs database cannot be opened."""

    code = "database_failed"


def database_url(settings: Settings) -> sa.URL:
    """The URL of the jobs database, with an installed driver."""
    url = sa.make_url(settings.resolved_database_url)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    return url


def url_text(url: sa.URL) -> str:
    """The URL with its password, as drivers expect it."""
    return url.render_as_string(hide_password=False)


def prepare(settings: Settings) -> sa.URL:
    """Create the database if it is missing, readable only by this user, and migrate its tables."""
    refuse_pickle()
    configure_dbos_logging()
    url = database_url(settings)
    if url_text(url) in _ready:
        return url
    try:
        run_migration(url, partial(_migrate, url))
    except (OSError, sa.exc.SQLAlchemyError) as error:
        # Only the driver's first line: SQLAlchemy adds lines about itself.
        cause = masked(str(getattr(error, "orig", None) or error)).strip().split("\n")[0]
        raise DatabaseError(
            f"The jobs database cannot be opened: {cause[:300].removesuffix('.')}.",
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
    note_maker(engine, tables.workers)
    tables.own.create_all(engine)
    add_missing_columns(engine, tables.workers)
    outdated = add_missing_columns(engine, tables.jobs)
    add_missing_indexes(engine, tables.jobs)
    with exclusive_transaction(engine) as connection:
        triggers.install(connection)
        if outdated:
            triggers.note_all_jobs(connection)
    engine.dispose()


def configure_dbos_logging() -> None:
    """Format DBOS' log lines like ours, and drop the uninteresting ones."""
    logger = logging.getLogger("dbos")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)
    if _is_relevant not in logger.filters:
        logger.addFilter(_is_relevant)


_IRRELEVANT = (
    "Waiting for the",
    "to verify existence of",
    # A finished batch of an earlier version, found by its name.
    "already exists in queue",
)


def _is_relevant(record: logging.LogRecord) -> bool:
    # DBOS logs a stack trace when a workflow was cancelled, or deleted for a retry.
    error = record.exc_info[1] if record.exc_info else None
    wanted = ("DBOSAwaitedWorkflowCancelledError", "DBOSNonExistentWorkflowError")
    if type(error).__name__ in wanted:
        return False
    message = record.getMessage()
    return not any(idle in message for idle in _IRRELEVANT)


def _prepare_file(path: Path) -> None:
    # Private, because it contains tasks; the journal files inherit this file's mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    engine = open_engine(sa.URL.create("sqlite", database=str(path)))
    with engine.connect() as connection:
        # DBOS keeps the rollback journal, with which readers and writers block each other.
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()


def open_engine(url: sa.URL, pool_size: int = 5) -> sa.Engine:
    """Create an engine whose connections are configured like those of DBOS."""
    sqlite = url.get_backend_name() == "sqlite"
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=10,
        pool_pre_ping=True,
        connect_args={} if sqlite else {**_NOTICE_LOST_SERVER, **url.query},
    )
    sa.event.listen(engine, "connect", _tune_sqlite if sqlite else _tune_postgres)
    return engine


_NOTICE_LOST_SERVER = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""By default, it takes minutes or hours until a server counts as lost that vanished silently."""


def _tune_postgres(connection: Any, _record: Any) -> None:
    # A frozen process must not hold its locks for ever.
    connection.execute("SET idle_in_transaction_session_timeout = 60000")
    connection.commit()


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA foreign_keys=ON")


@contextmanager
def exclusive_transaction(engine: sa.Engine, lock: int = SUBMIT_LOCK) -> Iterator[sa.Connection]:
    """A transaction that excludes all others with the same lock."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        yield connection


def require_writable(engine: sa.Engine) -> None:
    """Raise an exception if the database cannot be written. It writes nothing, so that a disk that
    is almost full is not noticed."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
            raise DatabaseError("The jobs database is read-only.", hint="Check EACPS_DATABASE_URL.")


def search_lock(key: str) -> int:
    """The lock of a search. Two searches may share one, which does no harm."""
    return SEARCH_LOCKS + zlib.crc32(key.encode())


class Tables:
    """DBOS' tables, with the columns that we use, and our own tables."""

    def __init__(self, engine: sa.Engine) -> None:
        schema = None if engine.dialect.name == "sqlite" else "dbos"

        def table(name: str, *columns: str) -> sa.TableClause:
            return sa.table(name, *map(sa.column, columns), schema=schema)

        self.status = table(
            "workflow_status", "workflow_uuid", "status", "name", "executor_id", "created_at",
            "updated_at", "completed_at", "output", "inputs", "owner_xid", "started_at_epoch_ms",
            "recovery_attempts", "application_version", "queue_name", "priority",
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
            # Processes of version 0.1 leave these two empty.
            sa.Column("version", sa.String(20)),
            sa.Column("equipment", sa.String(40)),
            # What the process waits for, such as a full disk.
            sa.Column("note", sa.String(200)),
            # The release, such as 0.2.1; releases with the same `version` share their work.
            sa.Column("release", sa.String(40)),
            # DRAIN when the process is to finish what it does and exit.
            sa.Column("asked", sa.String(20)),
        )
        self.equipment = sa.Table(
            "eacps_equipment",
            self.own,
            sa.Column("name", sa.String(40), primary_key=True),
            sa.Column("words", sa.Text, nullable=False),
        )
        self.changed_jobs = sa.Table(
            "eacps_changed_jobs",
            self.own,
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
            # The workflow of a job or of its delivery.
            sa.Column("workflow", sa.Text, nullable=False),
        )
        self.jobs = sa.Table(
            "eacps_jobs",
            self.own,
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("state", sa.String(20), nullable=False),
            sa.Column("created", sa.BigInteger, nullable=False),
            sa.Column("updated", sa.BigInteger, nullable=False),
            sa.Column("key", sa.Text, index=True),
            sa.Column("code", sa.Text),
            # Whether delivery failed for a reason that may pass.
            sa.Column("temporary", sa.Boolean, nullable=False),
            # 0: of none. Empty in rows that were written before these two columns existed.
            sa.Column("project", sa.BigInteger),
            sa.Column("task", sa.BigInteger),
            sa.Index("eacps_jobs_by_creation", "state", "created"),
            sa.Index("eacps_jobs_by_change", "state", "updated"),
            # Each question of the status page and of `eacps jobs list` has its index.
            sa.Index("eacps_jobs_of_all", "created"),
            sa.Index("eacps_jobs_of_project", "project", "created"),
            sa.Index("eacps_jobs_of_project_by_state", "project", "state", "created"),
            sa.Index("eacps_jobs_of_task", "task", "created"),
            *_indexes_of_failures(),
        )
        self.totals = sa.Table(
            "eacps_job_totals",
            self.own,
            sa.Column("state", sa.String(20), primary_key=True),
            sa.Column("number", sa.BigInteger, nullable=False),
        )
        self.subjects = sa.Table(
            "eacps_job_subjects",
            self.own,
            sa.Column("subject", sa.String(200), primary_key=True),
            sa.Column("job", sa.String(80), primary_key=True, index=True),
            sa.Column("created", sa.Float, nullable=False),
        )
        self.revocations = sa.Table(
            "eacps_revocations",
            self.own,
            sa.Column("scope", sa.String(200), primary_key=True),
            sa.Column("moment", sa.Float, nullable=False),
        )
        self.clocks = sa.Table(
            "eacps_project_clocks",
            self.own,
            sa.Column("project", sa.String(80), primary_key=True),
            # The priority of the project's next job.
            sa.Column("clock", sa.BigInteger, nullable=False),
        )
        self.usage = sa.Table(
            "eacps_project_usage",
            self.own,
            sa.Column("project", sa.String(80), primary_key=True),
            sa.Column("day", sa.String(10), primary_key=True),
            sa.Column("candidates", sa.BigInteger, nullable=False),
        )
        self.waiting = sa.Table(
            "eacps_waiting_jobs",
            self.own,
            sa.Column("job", sa.Text, primary_key=True),
            sa.Column("project", sa.String(80), nullable=False),
            sa.Column("candidates", sa.BigInteger, nullable=False),
            sa.Column("created", sa.Float, nullable=False),
            # Whether the job's task says that it waits.
            sa.Column("told", sa.Boolean, nullable=False),
            sa.Index("eacps_waiting_by_project", "project", "created"),
        )
        self.projects = sa.Table(
            "eacps_projects",
            self.own,
            sa.Column("name", sa.String(400), primary_key=True),
            # What Label Studio told of the project's ML backend when it set it up, as JSON.
            sa.Column("extra_params", sa.Text, nullable=False),
        )
        self.pictures = sa.Table(
            "eacps_pictures",
            self.own,
            sa.Column("key", sa.String(40), primary_key=True),
            sa.Column("content", sa.Text, nullable=False),
            sa.Column("used", sa.Float, nullable=False),
        )
        self.panel_actions = sa.Table(
            "eacps_panel_actions",
            self.own,
            sa.Column("job", sa.String(40), primary_key=True),
            # A task of a Label Studio, and the number of the request within it.
            sa.Column("place", sa.String(80), nullable=False, index=True),
            sa.Column("n", sa.Integer, nullable=False),
            sa.Column("action", sa.String(20), nullable=False),
            sa.Column("candidates", sa.Integer, nullable=False),
            sa.Column("asked", sa.Float, nullable=False),
            # The seeds that it draws, as JSON.
            sa.Column("seeds", sa.Text, nullable=False),
        )


def _indexes_of_failures() -> list[sa.Index]:
    failed = sa.text("code IS NOT NULL")
    return [
        sa.Index(name, *columns, sqlite_where=failed, postgresql_where=failed)
        for name, columns in (
            ("eacps_jobs_by_code", ("code", "created")),
            ("eacps_jobs_of_project_by_code", ("project", "code", "created")),
        )
    ]


def is_running(status: sa.TableClause) -> sa.ColumnElement[bool]:
    """Whether a workflow is running. Like the next two, it is written as in DBOS' indexes and
    without parameters, because otherwise SQLite reads all workflows instead of an index."""
    return status.c.status == sa.literal_column("'PENDING'")


def is_in_flight(status: sa.TableClause) -> sa.ColumnElement[bool]:
    """Whether a workflow is queued or running."""
    return status.c.status.in_([sa.literal_column("'ENQUEUED'"), sa.literal_column("'PENDING'")])


def is_queued(status: sa.TableClause) -> sa.ColumnElement[bool]:
    """Whether a workflow is queued."""
    return sa.and_(status.c.status == sa.literal_column("'ENQUEUED'"), is_in_flight(status))


@dataclass(frozen=True)
class Row:
    """A stored workflow."""

    id: str
    status: str
    created: float
    updated: float
    completed: float | None
    input: Any
    output: Any

    @property
    def ended(self) -> bool:
        """Whether the workflow has ended."""
        return self.status in names.ENDED

    @property
    def good(self) -> bool:
        """Whether the workflow ended without a failure."""
        return self.status == "SUCCESS" and not (self.output or {}).get("failure")


class Records:
    """Reads and deletes workflows in the jobs database."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.tables = Tables(engine)

    def status(self, *ids: str, connection: sa.Connection | None = None) -> dict[str, str]:
        """The stored statuses of workflows; missing ones are left out."""
        if connection is None:
            with self.engine.connect() as opened:
                return self.status(*ids, connection=opened)
        status = self.tables.status
        found: dict[str, str] = {}
        for chunk in chunks(ids):
            query = sa.select(status.c.workflow_uuid, status.c.status).where(
                status.c.workflow_uuid.in_(chunk)
            )
            found.update((row[0], row[1]) for row in connection.execute(query))
        return found

    @cache  # noqa: B019 - one object for each process
    def queues_with_work(self, queues: tuple[str, ...]) -> str:
        """SQL for those of these queues in which work waits for a process of this version."""
        status = self.tables.status
        each = [
            sa.select(sa.literal(queue)).where(
                sa.exists().where(
                    status.c.queue_name == queue,
                    is_queued(status),
                    status.c.application_version == names.VERSION,
                )
            )
            for queue in queues
        ]
        return self._sql(sa.union_all(*each))

    def _sql(self, query: sa.Select[Any] | sa.CompoundSelect[Any]) -> str:
        literal = {"literal_binds": True}
        return str(query.compile(dialect=self.engine.dialect, compile_kwargs=literal))

    def rows(
        self, ids: Iterable[str], connection: sa.Connection | None = None, *, output: bool = True
    ) -> dict[str, Row]:
        """Load workflows; missing ones are left out."""
        status = self.tables.status
        found: dict[str, Row] = {}
        for chunk in chunks(ids):
            query = self._query(output).where(status.c.workflow_uuid.in_(chunk))
            found.update((row.id, row) for row in self._read(query, connection))
        return found

    def began(self, ids: Iterable[str]) -> dict[str, float]:
        """When workflows were last taken from their queue; those that wait there are left out."""
        status = self.tables.status
        found: dict[str, float] = {}
        with self.engine.connect() as connection:
            for chunk in chunks(ids):
                query = sa.select(status.c.workflow_uuid, status.c.started_at_epoch_ms).where(
                    status.c.workflow_uuid.in_(chunk), status.c.started_at_epoch_ms.is_not(None)
                )
                found |= {row[0]: row[1] / 1000 for row in connection.execute(query)}
        return found

    def newest(self, name: str, limit: int) -> list[Row]:
        """Load workflows by name, newest first."""
        status = self.tables.status
        query = (
            self._query(True)
            .where(status.c.name == name)
            .order_by(status.c.created_at.desc(), status.c.workflow_uuid)
            .limit(limit)
        )
        return self._read(query)

    def batches(self, key: str, connection: sa.Connection) -> list[Row]:
        """Load the batches of a key."""
        uuid = self.tables.status.c.workflow_uuid
        prefix = names.batch_workflow(key, "")
        # ";" follows ":", so this range is a prefix search that uses the primary key's index.
        query = self._query(True).where(uuid >= prefix, uuid < f"{prefix[:-1]};")
        return [row for row in self._read(query, connection) if row.id.startswith(prefix)]

    def events(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Load the events of workflows."""
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

    def set_event(self, workflow: str, key: str, value: object) -> None:
        """Store an event of a workflow at once. Unlike DBOS' function, this is no step: it may be
        called any number of times."""
        with self.engine.begin() as connection:
            self._set_event(connection, workflow, key, value)

    def _set_event(self, connection: sa.Connection, workflow: str, key: str, value: object) -> None:
        events = self.tables.events
        ours = sa.and_(events.c.workflow_uuid == workflow, events.c.key == key)
        changed = connection.execute(sa.update(events).where(ours).values(value=encode(value)))
        if not changed.rowcount:
            connection.execute(
                sa.insert(events).values(workflow_uuid=workflow, key=key, value=encode(value))
            )

    def count_crash(self, workflow: str, by: int) -> None:
        """Count so many crashes more, or less, of the process that runs a workflow."""
        with self.engine.begin() as connection:
            self._count_crash(connection, workflow, by)

    def _count_crash(self, connection: sa.Connection, workflow: str, by: int) -> None:
        status = self.tables.status
        running = sa.and_(status.c.workflow_uuid == workflow, is_running(status))
        more = status.c.recovery_attempts + by
        connection.execute(sa.update(status).where(running).values(recovery_attempts=more))

    def pardon(self, workflow: str) -> None:
        """Let the next crash of the process that runs a workflow not count against it; a limited
        number of times, in case that it is to blame after all."""
        pardons = self.events([workflow]).get(workflow, {}).get(names.PARDONS_EVENT, 0)
        if pardons < names.MOST_PARDONS:
            # In one transaction, because the device waits for it.
            with self.engine.begin() as connection:
                self._set_event(connection, workflow, names.PARDONS_EVENT, pardons + 1)
                self._count_crash(connection, workflow, -1)

    def unfinished_batches(self, key: str) -> list[str]:
        """The batches of a key that are queued or running."""
        uuid = self.tables.status.c.workflow_uuid
        prefix = names.batch_workflow(key, "")
        query = sa.select(uuid).where(
            uuid >= prefix, uuid < f"{prefix[:-1]};", is_in_flight(self.tables.status)
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def waiting_for(self, key: str) -> list[str]:
        """The workflows of unfinished jobs that need this key's search."""
        status, events = self.tables.status, self.tables.events
        query = (
            sa.select(status.c.workflow_uuid)
            .join(events, events.c.workflow_uuid == status.c.workflow_uuid)
            .where(
                events.c.key == names.KEY_EVENT,
                events.c.value == encode(key),
                status.c.name == names.EDIT_TASK,
                is_in_flight(status),
            )
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def delete(self, ids: Iterable[str], connection: sa.Connection) -> None:
        """Delete workflows and everything that belongs to them."""
        for chunk in chunks(ids):
            for table in (self.tables.input, self.tables.output, self.tables.operations):
                connection.execute(sa.delete(table).where(table.c.workflow_uuid.in_(chunk)))
            uuid = self.tables.status.c.workflow_uuid
            connection.execute(sa.delete(self.tables.status).where(uuid.in_(chunk)))

    def delete_search(
        self, key: str, connection: sa.Connection, *, lost: Set[str] = frozenset()
    ) -> None:
        """Delete an ended search without a result, or with lost pictures.

        Batches without a failure and without a lost picture are kept.
        """
        name = names.search_workflow(key)
        row = self.rows([name], connection).get(name)
        if row is not None and (not row.ended or (row.good and not lost)):
            return
        unwanted = [
            batch.id
            for batch in self.batches(key, connection)
            if batch.ended and not (_succeeded(batch) and lost.isdisjoint(_pictures_of(batch)))
        ]
        self.delete([name, *unwanted], connection)

    def describe_equipment(self, name: str, words: str) -> None:
        """Store the description of an equipment hash, for messages to users."""
        table = self.tables.equipment
        with exclusive_transaction(self.engine) as connection:
            connection.execute(sa.delete(table).where(table.c.name == name))
            connection.execute(sa.insert(table).values(name=name, words=words))

    def waiting_batches(self) -> dict[str, int]:
        """The number of queued batches by equipment. Those of other versions of this program do
        not count: their jobs are restarted after an upgrade."""
        status = self.tables.status
        prefix = names.device_queue("")
        query = (
            sa.select(status.c.queue_name, sa.func.count())
            .where(
                is_queued(status),
                status.c.queue_name.between(prefix, f"{prefix[:-1]};"),
                status.c.name == names.BATCH,
                status.c.application_version == names.VERSION,
            )
            .group_by(status.c.queue_name)
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return {queue.removeprefix(prefix): count for queue, count in rows if queue}

    def keys_waiting_for(self, equipments: Iterable[str]) -> set[str]:
        """The keys of searches with queued batches for any of these equipments."""
        status = self.tables.status
        queues = [names.device_queue(equipment) for equipment in equipments]
        query = sa.select(status.c.workflow_uuid).where(
            is_queued(status),
            status.c.name == names.BATCH,
            status.c.queue_name.in_(queues),
        )
        with self.engine.connect() as connection:
            return {names.key_of(batch) for batch in connection.execute(query).scalars()}

    def equipment_words(self, equipments: Iterable[str]) -> dict[str, str]:
        """The descriptions of equipment hashes; unknown ones are left out."""
        table = self.tables.equipment
        query = sa.select(table.c.name, table.c.words).where(table.c.name.in_(list(equipments)))
        with self.engine.connect() as connection:
            return {row.name: row.words for row in connection.execute(query)}

    def free_connections(self) -> int | None:
        """How many more connections PostgreSQL allows; None on SQLite."""
        if self.engine.dialect.name == "sqlite":
            return None
        query = (
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
            " - (SELECT count(*) FROM pg_stat_activity WHERE"
            " COALESCE(backend_type, 'client backend') = 'client backend')"
        )
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(query).scalar_one())

    def live_roles(self, stale_after: float) -> Counter[str]:
        """The number of live processes in each role."""
        table = self.tables.workers
        query = sa.select(table.c.role).where(table.c.seen >= time.time() - stale_after)
        with self.engine.connect() as connection:
            return Counter(connection.execute(query).scalars())

    def pending_of(self, process: str, connection: sa.Connection | None = None) -> list[str]:
        """The workflows that this process runs, as they are stored."""
        if connection is None:
            with self.engine.connect() as opened:
                return self.pending_of(process, opened)
        status = self.tables.status
        query = sa.select(status.c.workflow_uuid).where(
            is_running(status), status.c.executor_id == process
        )
        return list(connection.execute(query).scalars())

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
    """The single argument of a workflow."""
    arguments = json.loads(text)["args"] if text else []
    return arguments[0] if arguments else {}


def _succeeded(batch: Row) -> bool:
    candidates = (batch.output or {}).get("candidates", ())
    return batch.status == "SUCCESS" and not any(c.get("failure") for c in candidates)


def _pictures_of(batch: Row) -> set[str]:
    candidates = (batch.output or {}).get("candidates", ())
    return {c[name] for c in candidates for name in ("image", "thumbnail") if c.get(name)}


def chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    """Split ids into chunks that every database accepts."""
    remaining = iter(ids)
    while portion := list(islice(remaining, CHUNK)):
        yield portion


def now() -> float:
    """Seconds since the epoch; for use outside of workflows only."""
    return time.time()
