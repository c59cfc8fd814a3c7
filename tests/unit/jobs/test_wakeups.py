"""Who waits for work or for an end is woken by the database, not by a poll."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dbos._dbos
import pytest
import sqlalchemy as sa
from dbos._queue import queue_worker_thread
from dbos._sys_db import SystemDatabase

from eacps.jobs import names, queues, wakeups
from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.wakeups import QueueSignal, Wakeups
from eacps.settings import Settings
from tests.databases import each_database
from tests.patience import PATIENCE, wait_until

OWN = names.job_workflow("own")
OTHER = names.job_workflow("other")


@pytest.fixture(params=each_database())
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    database = request.param(tmp_path)
    return Settings(_env_file=None, data_dir=tmp_path / "data", database_url=database)


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    engine = open_engine(prepare(settings))
    yield Records(engine)
    engine.dispose()


@pytest.fixture
def client(settings: Settings) -> Iterator[JobClient]:
    client = JobClient(settings)
    client.submit_many([Job("own", {}), Job("other", {})])
    yield client
    client.close()


@pytest.fixture
def watching(
    client: JobClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wakeups]:
    """Wake-ups that never check by themselves."""
    del client
    monkeypatch.setattr(wakeups, "CHECK_SECONDS", 36_000)
    found = Wakeups(records)
    become(records, OWN, "PENDING")
    checked = threading.Event()
    check = found.check

    def check_and_tell() -> None:
        check()
        checked.set()

    monkeypatch.setattr(found, "check", check_and_tell)
    found.start()
    assert checked.wait(PATIENCE)
    yield found
    found.stop()


def become(records: Records, workflow: str, status: str) -> None:
    table = records.tables.status
    with records.engine.begin() as connection:
        connection.execute(
            sa.update(table).where(table.c.workflow_uuid == workflow).values(status=status)
        )


class CountingSignal(QueueSignal):
    """Counts how often a queue was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def set(self) -> None:
        self.count += 1
        super().set()


def test_a_queue_is_woken_when_something_is_queued(watching: Wakeups, client: JobClient) -> None:
    signal = CountingSignal()
    watching.add_queue(names.JOBS_QUEUE, signal)
    assert signal.count == 1, "at first it may hold work of before"
    client.submit(Job("new", {}))
    wait_until(lambda: signal.count > 1)


@pytest.mark.parametrize("status", ["SUCCESS", "CANCELLED", names.DEAD])
def test_whoever_waits_for_a_batch_is_woken_by_its_end(
    watching: Wakeups, records: Records, status: str
) -> None:
    table = records.tables.status
    with records.engine.begin() as connection:
        batch = sa.update(table).where(table.c.workflow_uuid == OTHER)
        connection.execute(batch.values(name=names.BATCH))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watching.wait_for_end, OTHER, OWN)
        wait_until(lambda: watching.waiting_for(OTHER))
        become(records, OTHER, "PENDING")
        become(records, OTHER, status)
        assert waiting.result(PATIENCE) == status
    assert not watching.waiting_for(OTHER), "nothing is left behind"


def test_the_end_of_a_workflow_of_this_process_needs_no_notification(
    watching: Wakeups, records: Records
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watching.wait_for_end, OTHER, OWN)
        wait_until(lambda: watching.waiting_for(OTHER))
        become(records, OTHER, "SUCCESS")
        watching.ended(OTHER)
        assert waiting.result(PATIENCE) == "SUCCESS"


def test_whoever_is_cancelled_waits_no_longer(watching: Wakeups, records: Records) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watching.wait_for_end, OTHER, OWN)
        wait_until(lambda: watching.waiting_for(OTHER))
        become(records, OWN, "CANCELLED")
        assert waiting.result(PATIENCE) == "GONE"


def test_an_end_before_the_wait_is_seen(watching: Wakeups, records: Records) -> None:
    become(records, OTHER, "SUCCESS")
    assert watching.wait_for_end(OTHER, OWN) == "SUCCESS"
    assert watching.wait_for_end("job:unknown", OWN) == "GONE"


def test_a_lost_notification_is_made_up_for(
    client: JobClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    del client
    monkeypatch.setattr(wakeups, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(Wakeups, "_notified", lambda *_: None)
    watching = Wakeups(records)
    become(records, OWN, "PENDING")
    watching.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watching.wait_for_end, OTHER, OWN)
        wait_until(lambda: watching.waiting_for(OTHER))
        become(records, OTHER, "SUCCESS")
        assert waiting.result(PATIENCE) == "SUCCESS"
    watching.stop()


def test_watching_goes_on_after_the_database_was_away(
    client: JobClient,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    del client
    away = records.engine.dialect.loaded_dbapi.OperationalError("connection refused")
    errors = [sa.exc.OperationalError("", {}, OSError()), away, ValueError("odd")]
    monkeypatch.setattr(time, "sleep", lambda _: None)
    watching = Wakeups(records)
    good = watching.check

    def check() -> None:
        if errors:
            raise errors.pop(0)
        good()

    monkeypatch.setattr(watching, "check", check)
    signal = CountingSignal()
    become(records, OWN, "PENDING")
    watching.start()
    wait_until(lambda: not errors)
    watching.add_queue(names.JOBS_QUEUE, signal)
    wait_until(lambda: signal.count > 1)
    watching.stop()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["odd"]


def test_a_queue_is_served_by_dbos_own_thread() -> None:
    """That thread only asks its event whether to go on, and waits for it between two claims."""
    turns: list[str] = []

    class Ends(QueueSignal):
        def wait(self, timeout: float | None = None) -> bool:
            turns.append("wait")
            return True

    class Queue:
        name = "q"
        database_backed_queue = False
        _polling_interval_sec = 0.2

    queue_worker_thread(Ends(), None, Queue())  # type: ignore[arg-type]
    assert turns == ["wait"]


@pytest.mark.parametrize("name", queues.UNUSED_THREADS)
def test_dbos_still_has_the_threads_that_are_replaced(name: str) -> None:
    source = Path(dbos._dbos.__file__).read_text()
    assert f"target={name}," in source


@pytest.mark.parametrize("name", queues.UNUSED_LISTENERS)
def test_dbos_still_has_the_listeners_that_are_replaced(name: str) -> None:
    source = Path(dbos._dbos.__file__).read_text()
    assert f"target=self._sys_db.{name}," in source
    assert hasattr(SystemDatabase, name)


def test_what_is_claimed_counts_until_it_has_begun() -> None:
    claims = queues.Claims()
    claims.add("batch:1", "device:a")
    claims.add("batch:2", "device:a")
    claims.add("job:1", names.JOBS_QUEUE)
    assert (claims.not_begun("device:a"), claims.not_begun(names.JOBS_QUEUE)) == (2, 1)
    claims.remove("batch:1")
    claims.remove("batch:1")
    assert claims.not_begun("device:a") == 1
