"""How long jobs wait is read from unfinished work only."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.codec import encode
from eacps.jobs.contract import Job
from eacps.jobs.database import DatabaseError, Records, open_engine, prepare, require_writable
from eacps.settings import Settings

POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")


@pytest.fixture(params=["sqlite", "postgres"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobClient]:
    url = ""
    if request.param == "postgres":
        if not POSTGRES:
            pytest.skip("no PostgreSQL: set EACPS_TEST_POSTGRES_URL")
        name = f"delays_{uuid.uuid4().hex[:12]}"
        url = POSTGRES.rsplit("/", 1)[0] + f"/{name}"
    opened = JobClient(Settings(_env_file=None, data_dir=tmp_path, database_url=url))
    yield opened
    opened.close()


def test_an_empty_queue_waits_for_nothing(client: JobClient) -> None:
    found = client.delays()
    assert (found.oldest_queued, found.oldest_delivery) == (0.0, 0.0)
    assert found.retrying == {"prepare": 0, "deliver": 0}


def test_the_oldest_queued_job_and_what_is_tried_again_are_found(client: JobClient) -> None:
    client.submit_many([Job("old", {}), Job("new", {}), Job("retried", {})])
    records, _ = client._open()
    status, events = records.tables.status, records.tables.events
    with records.engine.begin() as connection:
        of = status.c.workflow_uuid
        connection.execute(
            sa.update(status)
            .where(of == names.job_workflow("old"))
            .values(created_at=status.c.created_at - 60_000)
        )
        connection.execute(
            sa.update(status).where(of == names.job_workflow("retried")).values(status="PENDING")
        )
        for name, note in (("retried", "Label Studio is down."), ("new", "")):
            connection.execute(
                sa.insert(events).values(
                    workflow_uuid=names.job_workflow(name),
                    key=names.NOTE_EVENT,
                    value=encode(note),
                )
            )
    found = client.delays()
    assert found.oldest_queued >= 60
    assert found.retrying == {"prepare": 1, "deliver": 0}


def test_what_is_kept_is_not_read(client: JobClient) -> None:
    """The plan of each query, because a slow one shows only with many jobs."""
    client.submit(Job("j", {}))
    records, _ = client._open()
    asked: list[tuple[str, Any]] = []
    plans: list[str] = []

    def note(_: object, __: object, statement: str, parameters: Any, *more: object) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            asked.append((statement, parameters))

    sa.event.listen(records.engine, "before_cursor_execute", note)
    client.delays()
    sa.event.remove(records.engine, "before_cursor_execute", note)
    assert len(asked) == 2
    lite = records.engine.dialect.name == "sqlite"
    with records.engine.begin() as connection:
        if not lite:
            # The table is almost empty, where reading all of it would be fastest.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in asked:
            words = "EXPLAIN QUERY PLAN" if lite else "EXPLAIN"
            rows = connection.exec_driver_sql(f"{words} {statement}", parameters)
            plans.append(" ".join(str(row) for row in rows))
    assert all(re.search("idx_workflow_status_(in_flight|pending)", plan) for plan in plans), plans


def test_the_ids_of_a_request_are_no_part_of_the_job(client: JobClient) -> None:
    assert client.submit(Job("a", {"x": 1}, trace={"request": "r1"}))
    assert not client.submit(Job("a", {"x": 1}, trace={"request": "r2"}))
    records, _ = client._open()
    [row] = records.rows([names.job_workflow("a")]).values()
    assert row.input["trace"] == {"request": "r1"}
    client.cancel("a")
    client.retry("a")
    [row] = records.rows([names.job_workflow("a")]).values()
    assert row.input["trace"] == {"request": "r1"}


def test_a_database_that_can_be_written_passes(client: JobClient) -> None:
    client.check()


def test_a_read_only_database_does_not_pass(tmp_path: Path) -> None:
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set EACPS_TEST_POSTGRES_URL")
    name = f"delays_{uuid.uuid4().hex[:12]}"
    settings = Settings(
        _env_file=None, data_dir=tmp_path, database_url=POSTGRES.rsplit("/", 1)[0] + f"/{name}"
    )
    engine = open_engine(prepare(settings))
    Records(engine)

    def read_only(connection: object, _: object) -> None:
        connection.execute("SET default_transaction_read_only = on")  # type: ignore[attr-defined]
        connection.commit()  # type: ignore[attr-defined]

    engine.dispose()
    sa.event.listen(engine, "connect", read_only)
    with pytest.raises(DatabaseError, match="read-only"):
        require_writable(engine)
    engine.dispose()
