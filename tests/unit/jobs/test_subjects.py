"""Jobs by what they are about, and what was revoked, on a real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from eacps.domain import (
    Candidate,
    EditTask,
    Noise,
    SearchPlan,
    SearchResult,
    Trial,
    from_json,
    to_json,
)
from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.codec import encode
from eacps.jobs.contract import BATCH_PRIORITY, INTERACTIVE_PRIORITY, Job
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.enqueueing import open_client
from eacps.settings import Settings

TASK = EditTask(image=f"{1:040x}.png", instruction="add a scarf", plan=SearchPlan())
MADE = tuple(Candidate(Trial(f"c{n}", Noise(n)), potential=n / 10) for n in (1, 2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path / "data")


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    engine = open_engine(prepare(settings))
    yield Records(engine)
    engine.dispose()


@pytest.fixture
def client(settings: Settings) -> Iterator[JobClient]:
    client = JobClient(settings)
    yield client
    client.close()


def test_jobs_are_listed_by_what_they_are_about_newest_first(client: JobClient) -> None:
    client.submit_many([Job("a", {}, subject="one"), Job("b", {}, subject="two"), Job("c", {})])
    client.submit(Job("d", {}, subject="one"))
    assert [status.id for status in client.about("one")] == ["d", "a"]
    assert [status.id for status in client.about("one", 1)] == ["d"]
    assert client.about("three") == []


def test_a_deleted_job_is_about_nothing(client: JobClient, records: Records) -> None:
    client.submit(Job("a", {}, subject="one"))
    end(records, names.job_workflow("a"), {"failure": None})
    assert client.prune(0) == 1
    with records.engine.connect() as connection:
        left = connection.execute(sa.select(records.tables.subjects)).all()
    assert left == []
    assert client.submit(Job("a", {}, subject="one"))
    assert [status.id for status in client.about("one")] == ["a"]


def test_what_waits_knows_how_many_wait_before_it(client: JobClient, records: Records) -> None:
    status = records.tables.status
    for number, name in enumerate("abcd"):
        # Whoever waits at the screen has a queue of their own.
        priority = INTERACTIVE_PRIORITY if name == "c" else BATCH_PRIORITY
        client.submit(Job(name, {}, priority))
        own = status.c.workflow_uuid == names.job_workflow(name)
        with records.engine.begin() as connection:
            connection.execute(sa.update(status).where(own).values(created_at=1000 + number))
    ahead = {status.id: client.ahead(status) for status in client.list()}
    assert ahead == {"c": 0, "a": 0, "b": 1, "d": 2}


def test_a_search_tells_what_it_has_made_and_then_its_result(
    client: JobClient, records: Records
) -> None:
    assert client.search("k") is None
    dbos = open_client(records)
    search, batch = names.search_workflow("k"), names.batch_workflow("k", "x")
    with records.engine.begin() as connection:
        content = {"task": to_json(TASK), "priority": 10}
        options = names.options(names.SEARCH, names.SEARCH_QUEUE, search, 10)
        dbos.enqueue_in_transaction(connection, options, content)
        options = names.options(names.BATCH, names.device_queue("e"), batch, 10)
        dbos.enqueue_in_transaction(connection, options, {})
    begun = client.search("k")
    assert begun is not None
    assert (begun.task, begun.result, begun.candidates) == (TASK, None, ())
    end(records, batch, {"candidates": [to_json(each) for each in MADE]})
    running = client.search("k")
    assert running is not None
    assert (running.result, running.candidates) == (None, MADE)
    result = SearchResult(TASK, MADE[::-1], nfe=2, seconds=1.0)
    end(records, search, {"result": to_json(result)})
    ended = client.search("k")
    assert ended is not None
    assert (ended.result, ended.candidates) == (result, MADE[::-1])


def end(records: Records, workflow: str, output: object) -> None:
    """What DBOS stores when a workflow ends."""
    tables, moment = records.tables, int(time.time() * 1000) - 1000
    with records.engine.begin() as connection:
        connection.execute(
            sa.update(tables.status)
            .where(tables.status.c.workflow_uuid == workflow)
            .values(status="SUCCESS", updated_at=moment, completed_at=moment)
        )
        connection.execute(
            sa.insert(tables.output).values(workflow_uuid=workflow, output=encode(output))
        )


def test_revocations_are_known_by_their_scope_and_the_last_one_counts(client: JobClient) -> None:
    before = time.time()
    first = client.revoke("a")
    client.revoke("b")
    assert first >= before
    assert client.revoked(["a", "c"]) == {"a": first}
    again = client.revoke("a")
    assert client.revoked(["a"]) == {"a": again}


def test_the_subject_of_a_stored_job_is_kept(client: JobClient) -> None:
    job = Job("a", {"x": 1}, subject="one")
    assert from_json(Job, to_json(job)).subject == "one"
    assert "subject" not in to_json(Job("b", {}))
