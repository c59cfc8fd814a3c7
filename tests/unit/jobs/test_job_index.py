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
from eacps.jobs.contract import INTERACTIVE_PRIORITY, STATES, Job, JobFilter, JobStatus, PageEnd
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.job_index import JobIndex, state_of
from eacps.settings import Settings
from tests.databases import each_database

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


def test_an_index_without_projects_is_completed(
    settings: Settings, client: JobClient, records: Records
) -> None:
    client.submit_many([Job("a", {"project": 3, "task": 7}), Job("b", {})])
    client.counts()
    with records.engine.begin() as connection:
        names_of = sa.inspect(connection).get_indexes("eacps_jobs")
        for index in names_of:
            if {"project", "task", "code"} & set(index["column_names"]):
                connection.exec_driver_sql(f"DROP INDEX {index['name']}")
        for column in ("project", "task"):
            connection.exec_driver_sql(f"ALTER TABLE eacps_jobs DROP COLUMN {column}")
    database._ready.clear()
    prepare(settings)
    assert client.projects() == [3]
    assert [job.id for job in client.page(JobFilter(task=7), 5).jobs] == ["a"]
    assert client.counts()["queued"] == 2
    there = {index["name"] for index in sa.inspect(records.engine).get_indexes("eacps_jobs")}
    assert there == {index.name for index in records.tables.jobs.indexes}


FILTERS = [
    JobFilter(state, project, task, code)
    for state in (None, "queued", "failed", "cancelled")
    for project in (None, 1, 3)
    for task in (None, 4)
    for code in ("", "no_image", "bad_mask")
]


@pytest.fixture(params=each_database())
def many(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[JobClient]:
    """Sixty jobs of four projects, of which some have failed, some were cancelled, some wait."""
    client = JobClient(settings.model_copy(update={"database_url": request.param(tmp_path)}))
    origins = [{"project": number % 4, "task": number % 7} for number in range(60)]
    client.submit_many([Job(f"j{n:02}", origin) for n, origin in enumerate(origins)])
    records, _ = client._open()
    for number in range(0, 60, 3):
        code = "no_image" if number % 2 else "bad_mask"
        become(
            records,
            names.job_workflow(f"j{number:02}"),
            "SUCCESS",
            {"failure": to_json(Failure(code, "It failed."))},
        )
    for number in range(1, 60, 12):
        client.cancel(f"j{number:02}")
    yield client
    client.close()


def test_pages_hold_each_job_of_a_filter_once_newest_first(many: JobClient) -> None:
    every = many.list(1000)
    assert len(every) == 60
    for wanted in FILTERS:
        right = [job.id for job in every if _fits(job, wanted)]
        found, end = [], None
        while True:
            page = many.page(wanted, 7, end)
            found += [job.id for job in page.jobs]
            assert len(page.jobs) == 7 or page.end is None
            end = page.end
            if end is None:
                break
        assert sorted(found) == sorted(right), wanted
        created = [job.created for job in many.page(wanted, 60).jobs]
        assert created == sorted(created, reverse=True)
        assert many.number(wanted, 1000) == len(right)
        assert many.number(wanted, 2) == min(2, len(right))


def _fits(job: JobStatus, wanted: JobFilter) -> bool:
    return (
        wanted.state in (None, job.state)
        and wanted.project in (None, job.origin["project"])
        and wanted.task in (None, job.origin["task"])
        and wanted.code in ("", job.failure.code if job.failure else "")
    )


def test_what_can_be_filtered_by_is_known(many: JobClient) -> None:
    assert many.projects() == [1, 2, 3]
    assert many.failure_codes() == ["bad_mask", "no_image"]


def test_places_count_who_begins_first(many: JobClient) -> None:
    another = Job("person", {"project": 2, "task": 1}, priority=INTERACTIVE_PRIORITY)
    many.submit_many([another])
    records, _ = many._open()
    status = records.tables.status
    columns = (status.c.workflow_uuid, status.c.queue_name, status.c.priority, status.c.created_at)
    with records.engine.connect() as connection:
        query = sa.select(*columns).where(status.c.status == "ENQUEUED")
        found = connection.execute(query).all()
    moments = {
        names.job_of(row.workflow_uuid): (
            row.queue_name != names.INTERACTIVE_QUEUE, row.priority, row.created_at,
        )
        for row in found
    }  # fmt: skip
    assert len({priority for _, priority, _ in moments.values()}) > 5
    right = {
        job: 1 + sum(other < moment for other in moments.values())
        for job, moment in moments.items()
    }
    assert right["person"] == 1
    some = [*sorted(right)[::4], "person"]
    assert many.places([*some, "j00", "nobody"]) == {job: right[job] for job in some}
    assert many.places([]) == {}


def test_the_speed_is_that_of_the_time_with_a_queue(many: JobClient) -> None:
    # Twenty failed just now, and the queue is new: within the shortest window.
    assert many.speed() == pytest.approx(20 / job_index.SHORTEST_WINDOW)
    records, _ = many._open()
    jobs = records.tables.jobs
    with records.engine.begin() as connection:
        queued = jobs.c.state == "queued"
        connection.execute(sa.update(jobs).where(queued).values(created=1))
    assert many.speed() == pytest.approx(20 / job_index.LONGEST_WINDOW)
    with records.engine.begin() as connection:
        connection.execute(sa.delete(jobs).where(queued))
    assert many.speed() == 0


def test_ended_jobs_are_counted_by_time(many: JobClient) -> None:
    since = time.time() - 3600
    counts = many.ended_by_time(since, 600)
    assert sum(counts.values()) == 20
    assert {(state, slot) for state, slot in counts} <= {("failed", 5), ("failed", 6)}
    assert many.ended_by_time(time.time() + 60, 600) == {}


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
    for wanted in (
        JobFilter(),
        JobFilter(state="queued"),
        JobFilter(project=3),
        JobFilter(state="failed", project=3),
        JobFilter(code="no_image"),
        JobFilter(state="failed", project=3, code="no_image"),
        JobFilter(task=2),
        JobFilter(state="done", project=3, task=2),
    ):
        page = client.page(wanted, 2)
        client.page(wanted, 2, page.end or PageEnd(10**13, "j3"))
        client.number(wanted, 1000)
    client.projects()
    client.failure_codes()
    client.places([f"j{number}" for number in range(5)])
    client.ended_by_time(time.time() - 3600, 300)
    client.speed()
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
    reading = ("SELECT", "WITH")
    asked = [each for each in statements if each[0].lstrip().upper().startswith(reading)]
    assert len(asked) > 8
    with records.engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            details = [row.detail for row in plan]
            scans = [line for line in details if line.startswith("SCAN workflow_status")]
            assert all(" USING INDEX " in line for line in scans), (statement, details)
            assert not any(line.startswith("SCAN eacps_jobs") for line in details), (
                statement,
                details,
            )
            if " ORDER BY eacps_jobs.created DESC" in statement and " LIMIT " in statement:
                # At most jobs of the same millisecond are sorted.
                assert not any("TEMP B-TREE FOR ORDER BY" in line for line in details), statement
    engine.dispose()
