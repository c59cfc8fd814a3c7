"""The index of jobs by state, compared with what the workflows themselves say."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from eacps.domain import Failure, to_json
from eacps.jobs import database, job_index, names, retention
from eacps.jobs.adoption import Adoption
from eacps.jobs.beats import Heartbeat, ProcessIdentity, StrayWork
from eacps.jobs.client import JobClient
from eacps.jobs.codec import JsonSerializer, encode
from eacps.jobs.contract import STATES, Job
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.job_index import JobIndex, state_of
from eacps.settings import Settings

FAILURE = to_json(Failure("no_image", "There is no image."))
FINE = {"failure": None}


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


def become(records: Records, workflow: str, status: str, output: Any = None) -> None:
    """What DBOS stores when a workflow gets this status."""
    tables = records.tables
    moment = int(time.time() * 1000)
    ended = status in names.ENDED
    with records.engine.begin() as connection:
        connection.execute(
            sa.update(tables.status)
            .where(tables.status.c.workflow_uuid == workflow)
            .values(status=status, updated_at=moment, completed_at=moment if ended else None)
        )
        if output is not None:
            connection.execute(
                sa.insert(tables.output).values(workflow_uuid=workflow, output=encode(output))
            )


def begin_delivery(records: Records, job: str) -> None:
    from dbos import DBOSClient

    dbos = DBOSClient(system_database_engine=records.engine, serializer=JsonSerializer())
    name = names.delivery_workflow(job)
    dbos.enqueue(names.enqueue_options(names.DELIVERY, name, 10), {"job": {"id": job}})


def say_key(records: Records, workflow: str, key: str) -> None:
    with records.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO workflow_events (workflow_uuid, key, value) VALUES (:w, :k, :v)"),
            {"w": workflow, "k": names.KEY_EVENT, "v": encode(key)},
        )


def true_states(records: Records) -> Counter[str]:
    """The states as the workflows say them, read one by one."""
    status, output = records.tables.status, records.tables.output
    query = sa.select(status.c.workflow_uuid, status.c.status, output.c.output).outerjoin(
        output, output.c.workflow_uuid == status.c.workflow_uuid
    )
    with records.engine.connect() as connection:
        rows = {row.workflow_uuid: row for row in connection.execute(query)}

    def failed(name: str) -> bool:
        output = rows[name].output if name in rows else None
        return bool(json.loads(output or "{}").get("failure"))

    found: Counter[str] = Counter()
    for name, row in rows.items():
        if name.startswith("job:"):
            delivery = names.delivery_workflow(names.job_of(name))
            told = rows[delivery].status if delivery in rows else None
            found[state_of(row.status, failed(name), told, failed(delivery))] += 1
    return found


def end(records: Records, workflow: str, step: str) -> None:
    if step in ("end", "fail"):
        become(records, workflow, "SUCCESS", {"failure": FAILURE} if step == "fail" else FINE)
    for name, status in (("run", "PENDING"), ("crash", names.DEAD), ("cancel", "CANCELLED")):
        if step == name:
            become(records, workflow, status)


def test_the_index_says_what_the_workflows_say_whatever_happened(
    client: JobClient, records: Records
) -> None:
    chance = random.Random(7)
    index = JobIndex(records)
    client.submit_many([Job(f"j{number}", {}) for number in range(12)])
    for _ in range(150):
        job = f"j{chance.randrange(12)}"
        own, delivery = names.job_workflow(job), names.delivery_workflow(job)
        known = records.status(own, delivery)
        step = chance.choice(["run", "end", "fail", "deliver", "delivered", "undelivered", "crash",
                              "cancel", "delete", "again"])  # fmt: skip
        if step == "again" and own not in known:
            client.submit(Job(job, {}))
        elif step == "delete":
            with records.engine.begin() as connection:
                records.delete([own, delivery], connection)
        elif step == "deliver" and delivery not in known:
            begin_delivery(records, job)
        elif step in ("delivered", "undelivered") and known.get(delivery) == "ENQUEUED":
            output = FINE if step == "delivered" else {"failure": FAILURE, "temporary": True}
            become(records, delivery, "SUCCESS", output)
        elif known.get(own) in ("ENQUEUED", "PENDING"):
            end(records, own, step)
        if chance.random() < 0.3:
            assert +Counter(index.counts()) == true_states(records), step
    assert +Counter(client.counts()) == true_states(records)
    listed = {state: [job.id for job in client.list(50, state)] for state in STATES}
    assert {state: len(jobs) for state, jobs in listed.items()} == client.counts()


def test_what_was_there_before_the_index_is_in_it(
    settings: Settings, client: JobClient, records: Records
) -> None:
    client.submit_many([Job("a", {}), Job("b", {})])
    become(records, names.job_workflow("b"), "CANCELLED")
    with records.engine.begin() as connection:
        for event in ("insert", "update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER eacps_changed_1_{event}")
        for table in (records.tables.jobs, records.tables.totals, records.tables.changed_jobs):
            table.drop(connection)
    database._ready.clear()
    prepare(settings)
    assert +Counter(client.counts()) == {"queued": 1, "cancelled": 1}
    client.submit(Job("c", {}))
    assert client.counts()["queued"] == 2


def test_the_state_of_more_jobs_than_one_portion_is_found(
    client: JobClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_index, "PORTION", 3)
    client.submit_many([Job(f"j{number}", {}) for number in range(10)])
    assert client.counts()["queued"] == 10


def test_a_search_that_another_job_needs_survives_pruning(
    client: JobClient, records: Records
) -> None:
    from dbos import DBOSClient

    dbos = DBOSClient(system_database_engine=records.engine, serializer=JsonSerializer())
    client.submit_many([Job(job, {}) for job in ("old", "running", "new")])
    for key in ("shared", "unshared", "needed"):
        for kind, name in ((names.SEARCH, names.search_workflow(key)),
                           (names.BATCH, names.batch_workflow(key, "x"))):  # fmt: skip
            dbos.enqueue({"workflow_name": kind, "queue_name": "q", "workflow_id": name}, {})
            become(records, name, "SUCCESS", FINE)
    for job, key in (("old", "unshared"), ("running", "shared"), ("new", "needed")):
        say_key(records, names.job_workflow(job), key)
    become(records, names.job_workflow("old"), "SUCCESS", FINE)
    become(records, names.job_workflow("running"), "PENDING")
    become(records, names.job_workflow("new"), "SUCCESS", FINE)
    with records.engine.begin() as connection:
        status = records.tables.status
        connection.execute(
            sa.update(status)
            .where(status.c.workflow_uuid != names.job_workflow("new"))
            .where(status.c.completed_at.is_not(None))
            .values(completed_at=1, updated_at=1)
        )
    assert retention.prune(records, 1) == 1
    left = {names.search_workflow(key) for key in ("shared", "needed")}
    left |= {names.batch_workflow(key, "x") for key in ("shared", "needed")}
    with records.engine.connect() as connection:
        uuids = set(connection.execute(sa.select(records.tables.status.c.workflow_uuid)).scalars())
    assert uuids == left | {names.job_workflow("running"), names.job_workflow("new")}


def test_no_question_of_the_status_page_or_of_pruning_reads_every_job(
    client: JobClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit_many([Job(f"j{number}", {}) for number in range(5)])
    become(records, names.job_workflow("j1"), "SUCCESS", {"failure": FAILURE})
    statements: list[tuple[str, Any]] = []
    engine = sa.create_engine(records.engine.url)
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda _c, _k, statement, parameters, _x, _m: statements.append((statement, parameters)),
    )
    watched = Records(engine)
    monkeypatch.setattr(client, "_open", lambda: (watched, None))
    client.counts()
    client.list(20, "failed")
    client.list(20)
    client.waiting()
    client.failed()
    client.ended_since(time.time() - 60)
    JobIndex(watched).undelivered()
    queues = (names.JOBS_QUEUE, names.DELIVERY_QUEUE)
    statements.append((watched.queues_with_work(queues), ()))
    watched.waiting_for("k")
    me = ProcessIdentity("me", "orchestrator", "")
    stray = StrayWork(list, lambda _: None, 60)
    Heartbeat(me, watched, 60, lambda _: None, Adoption(watched, 60), stray).check_work(0)
    retention.prune(watched, 30)
    asked = [each for each in statements if each[0].lstrip().upper().startswith("SELECT")]
    assert len(asked) > 8
    with records.engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            details = [row.detail for row in plan]
            scans = [line for line in details if line.startswith("SCAN workflow_status")]
            assert all(" USING INDEX " in line for line in scans), (statement, details)
    engine.dispose()
