"""`eacps doctor --deep` finds what is lost, and changes nothing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOSClient

from eacps.artifacts import ArtifactStore, open_store
from eacps.domain import to_json
from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.codec import JsonSerializer, encode
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.inspection import NAMED, Remark, inspect_database, inspect_store
from eacps.settings import Settings
from tests.unit.labelstudio.support import make_result

POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    if request.param == "sqlite":
        yield Settings(_env_file=None, data_dir=tmp_path / "data")
        return
    if not POSTGRES:
        pytest.skip("EACPS_TEST_POSTGRES_URL names no server")
    name = f"inspection_{uuid.uuid4().hex}"
    server = sa.create_engine(
        sa.make_url(POSTGRES).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = sa.make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    yield Settings(_env_file=None, data_dir=tmp_path / "data", database_url=url)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    engine = open_engine(prepare(settings))
    yield Records(engine)
    engine.dispose()


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_store(settings)


def finished(settings: Settings, records: Records, store: ArtifactStore, number: int) -> list[str]:
    """A job that has ended with a result; returns the names of its pictures."""
    job, key = f"job-{number}", f"key-{number}"
    client = JobClient(settings)
    client.submit(Job(job, {"data": {"image": f"data:{number}" + "x" * 5000}}))
    client.close()
    result = make_result()
    images = [store.put(f"{number} {each.id}".encode(), "png") for each in result.candidates]
    source = store.put(f"{number} source".encode(), "png")
    candidates = (
        replace(each, image=image, thumbnail=None)
        for each, image in zip(result.candidates, images, strict=True)
    )
    task = replace(result.task, image=source, mask=None, references=(), regions=())
    result = replace(result, task=task, candidates=tuple(candidates))
    dbos = DBOSClient(system_database_engine=records.engine, serializer=JsonSerializer())
    search = names.search_workflow(key)
    dbos.enqueue(
        {"workflow_name": names.SEARCH, "queue_name": names.SEARCH_QUEUE, "workflow_id": search}, {}
    )
    status, events = records.tables.status, records.tables.events
    with records.engine.begin() as connection:
        connection.execute(
            sa.update(status)
            .where(status.c.workflow_uuid == search)
            .values(status="SUCCESS", output=encode({"result": to_json(result)}))
        )
        event = {"key": names.KEY_EVENT, "value": encode(key)}
        connection.execute(sa.insert(events).values(workflow_uuid=names.job_workflow(job), **event))
    return images


def path_of(settings: Settings, name: str) -> Path:
    return settings.data_dir / "artifacts" / name[:2] / name


def remarks(records: Records, store: ArtifactStore) -> list[Remark]:
    return [*inspect_database(records), *inspect_store(records, store, lambda *_: None)]


def problems(records: Records, store: ArtifactStore) -> list[str]:
    return [words for state, words in remarks(records, store) if state != "ok"]


def test_what_is_whole_is_counted(
    settings: Settings, records: Records, store: ArtifactStore
) -> None:
    images = [finished(settings, records, store, number) for number in range(3)]
    store.put(b"a preview", "png")
    seen: list[tuple[int, int]] = []
    found = [*inspect_database(records), *inspect_store(records, store, lambda *n: seen.append(n))]
    assert {state for state, _ in found} == {"ok"}
    # Per job: the pictures, the source and the data: URI.
    count = 3 * (len(images[0]) + 2)
    assert any(words.startswith(f"{count} files") for _, words in found)
    assert any(words.startswith("1 other files") for _, words in found)
    assert seen[-1] == (count, count)


def test_what_is_lost_is_named_with_what_to_do_and_nothing_is_changed(
    settings: Settings, records: Records, store: ArtifactStore
) -> None:
    images = [finished(settings, records, store, number) for number in range(NAMED + 2)]
    path_of(settings, images[0][0]).unlink()
    for each in images[1:]:
        path_of(settings, each[0]).write_bytes(b"garbled")
    for _ in range(2):
        [words] = problems(records, store)
        assert f"1 are missing, {NAMED + 1} are damaged" in words
        assert f"{NAMED + 2} jobs need them (job-0, job-1" in words
        assert "and 2 more" in words
        assert "eacps jobs restart" in words
    assert path_of(settings, images[1][0]).read_bytes() == b"garbled"


def test_the_inputs_of_jobs_and_what_tasks_show_are_needed_too(
    settings: Settings, records: Records, store: ArtifactStore
) -> None:
    finished(settings, records, store, 0)
    shown = store.put(b"shown by a task", "png")
    store.keep_for("0123-task-17", [shown])
    path_of(settings, shown).unlink()
    [value] = (settings.data_dir / "artifacts").glob("??/*.json")
    value.unlink()
    of_jobs, of_tasks = problems(records, store)
    assert "job-0" in of_jobs
    assert "1 tasks" in of_tasks
    assert "(17)" in of_tasks


def test_a_job_that_cannot_be_read_is_named(
    settings: Settings, records: Records, store: ArtifactStore
) -> None:
    client = JobClient(settings)
    client.submit(Job("broken", {"a": 1}))
    client.close()
    given = records.tables.input
    with records.engine.begin() as connection:
        connection.execute(
            sa.update(given)
            .where(given.c.workflow_uuid == "job:broken")
            .values(inputs=encode({"args": [{"no": "job"}], "kwargs": {}}))
        )
    [words] = problems(records, store)
    assert "1 jobs cannot be read (broken)" in words


def test_a_damaged_sqlite_file_is_found(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    engine = open_engine(prepare(settings))
    records = Records(engine)
    client = JobClient(settings)
    client.submit_many([Job(f"{number}", {"text": "x" * 3000}) for number in range(200)])
    client.close()
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.exec_driver_sql(
            "SELECT rootpage FROM sqlite_master WHERE name = 'workflow_status'"
        ).scalar_one()
    engine.dispose()
    file = Path(engine.url.database or "")
    with file.open("r+b") as opened:
        # The first page of the table of jobs.
        opened.seek((page - 1) * 4096)
        opened.write(b"\xff" * 4096)
    state, words = next(inspect_database(records))
    assert state == "fail"
    assert "restore a backup" in words
    engine.dispose()
