"""Batches wait for a worker that has loaded what they need; a worker refuses all others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest
import sqlalchemy as sa

from eacps.domain import Candidate, EditTask, Noise, Trial, from_json, to_json
from eacps.jobs import names
from eacps.jobs.beats import Heartbeat, ProcessIdentity
from eacps.jobs.client import JobClient, NoSuchJobError
from eacps.jobs.codec import JsonSerializer, encode
from eacps.jobs.contract import Job, WaitingBatches, waiting_words
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.worker import DeviceWorker, WrongWorkerError
from eacps.settings import Settings
from tests.patience import PATIENCE


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path / "data", host_name="here")


@pytest.fixture
def client(settings: Settings) -> Iterator[JobClient]:
    client = JobClient(settings)
    yield client
    client.close()


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    engine = open_engine(prepare(settings))
    yield Records(engine)
    engine.dispose()


def queue_batch(records: Records, key: str, equipment: str, version: str = names.VERSION) -> None:
    """What an orchestrator leaves in the database while a batch waits."""
    from dbos import DBOSClient

    dbos = DBOSClient(system_database_engine=records.engine, serializer=JsonSerializer())
    dbos.enqueue(
        {
            "workflow_name": names.BATCH,
            "queue_name": names.device_queue(equipment),
            "workflow_id": names.batch_workflow(key, f"{equipment}-{version}"),
            "app_version": version,
        },
        {},
    )


def needs(records: Records, job: str, key: str) -> None:
    """Record that a job is answered by the search of a key."""
    workflow, value = names.job_workflow(job), encode(key)
    with records.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO workflow_events (workflow_uuid, key, value) VALUES (:w, :k, :v)"),
            {"w": workflow, "k": names.KEY_EVENT, "v": value},
        )


def beat(records: Records, role: str, equipment: str) -> None:
    Heartbeat(ProcessIdentity(f"here/{role}", role, "cpu", equipment), records, 60).beat()


def test_batches_that_no_live_worker_can_take_are_named_with_what_they_need(
    client: JobClient, records: Records
) -> None:
    client.submit(Job("a", {}))
    queue_batch(records, "k1", "old")
    queue_batch(records, "k2", "old")
    queue_batch(records, "k3", "now")
    records.describe_equipment("old", "editor bears-1")
    records.describe_equipment("old", "editor bears-2")
    beat(records, "worker", "now")
    assert client.waiting() == [WaitingBatches("old", "editor bears-2", 2)]
    beat(records, "worker", "old")
    assert client.waiting() == [WaitingBatches("now", "", 1)]


def test_an_orchestrator_with_the_same_settings_takes_no_batches(
    client: JobClient, records: Records
) -> None:
    queue_batch(records, "k1", "now")
    beat(records, "orchestrator", "now")
    assert [each.equipment for each in client.waiting()] == ["now"]


def test_a_worker_that_fell_silent_takes_no_batches(settings: Settings, records: Records) -> None:
    queue_batch(records, "k1", "now")
    beat(records, "worker", "now")
    with records.engine.begin() as connection:
        connection.execute(sa.update(records.tables.workers).values(seen=1.0))
    client = JobClient(settings)
    assert [each.equipment for each in client.waiting()] == ["now"]
    client.close()


def test_batches_of_an_earlier_version_wait_for_nobody(client: JobClient, records: Records) -> None:
    queue_batch(records, "k1", "old", version=names.FIRST_VERSION)
    assert client.waiting() == []
    assert client.waiting_jobs() == []


def test_the_jobs_behind_waiting_batches_are_found(client: JobClient, records: Records) -> None:
    client.submit_many([Job(name, {}) for name in ("stuck", "stuck too", "served", "ended")])
    for job, key in (("stuck", "k1"), ("stuck too", "k1"), ("served", "k2"), ("ended", "k1")):
        needs(records, job, key)
    queue_batch(records, "k1", "old")
    queue_batch(records, "k2", "now")
    beat(records, "worker", "now")
    client.cancel("ended")
    assert sorted(client.waiting_jobs()) == ["stuck", "stuck too"]


def test_a_restarted_job_begins_anew_whatever_became_of_it(
    client: JobClient, records: Records
) -> None:
    client.submit_many([Job("queued", {"task": 7}, priority=1), Job("cancelled", {"task": 8})])
    needs(records, "queued", "k1")
    client.cancel("cancelled")
    for job, task in (("queued", 7), ("cancelled", 8)):
        assert client.restart(job)
        status = client.status(job)
        assert status is not None
        assert (status.state, status.origin) == ("queued", {"task": task})
        assert status.key is None, "it still waits for the search of before"
    assert client.counts()["queued"] == 2


def test_a_job_keeps_its_priority_when_it_is_restarted(client: JobClient, records: Records) -> None:
    client.submit(Job("a", {}, priority=1))
    client.restart("a")
    row = records.rows([names.job_workflow("a")])[names.job_workflow("a")]
    assert from_json(Job, row.input).priority == 1


def test_a_job_that_nobody_knows_is_not_restarted(client: JobClient) -> None:
    with pytest.raises(NoSuchJobError, match="nobody"):
        client.restart("nobody")


def test_what_waits_is_said_with_the_command_that_helps() -> None:
    one = waiting_words(WaitingBatches("0123456789", "editor bears", 1))
    assert one.startswith("1 batch waits for a worker")
    assert "editor bears" in one
    assert "`eacps jobs restart --waiting`" in one
    several = waiting_words(WaitingBatches("0123456789", "", 3))
    assert several.startswith("3 batches wait for a worker")
    assert "0123456789" in several


class Device:
    """Takes any batch, and remembers which tasks it was given."""

    def __init__(self) -> None:
        self.seen: list[EditTask] = []

    def run_batch(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Callable[[], None],
        let_go: Callable[[], None],
    ) -> list[Candidate]:
        del let_go
        self.seen.append(task)
        return [Candidate(trial, potential=1.0) for trial in trials]


class OneRunning:
    """Records in which every workflow runs."""

    def status(self, *ids: str) -> dict[str, str]:
        return dict.fromkeys(ids, "PENDING")

    def count_crash(self, workflow: str, by: int) -> None:
        """Nothing crashes here."""

    def pardon(self, workflow: str) -> None:
        """Nothing crashes here."""


def batch(task: EditTask) -> dict[str, Any]:
    return {"task": to_json(task), "trials": [to_json(Trial("c1", Noise(1)))]}


def test_a_worker_renders_what_was_made_for_its_settings_and_refuses_the_rest(
    settings: Settings,
) -> None:
    device = Device()
    worker = DeviceWorker(device, cast(Records, OneRunning()), settings)
    fitting = EditTask("a.png", "add a hat", equipment=settings.equipment)
    (candidate,) = worker.batch(batch(fitting))["candidates"]
    assert candidate["potential"] == 1.0
    assert device.seen == [fitting]
    for equipment, words in (("0123456789", "0123456789"), ("", "unknown equipment")):
        with pytest.raises(WrongWorkerError, match=words) as caught:
            worker.batch(batch(replace(fitting, equipment=equipment)))
        assert settings.equipment in caught.value.message
    assert device.seen == [fitting]


EDIT = EditTask("a.png", "add a hat")


class JudgedElsewhere(Device):
    """Lets the device go at once, and then waits for its judge."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = threading.Event()
        self.rendered: SimpleQueue[str] = SimpleQueue()

    def run_batch(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Callable[[], None],
        let_go: Callable[[], None],
    ) -> list[Candidate]:
        self.rendered.put(task.instruction)
        let_go()
        let_go()
        assert self.answered.wait(PATIENCE)
        return [Candidate(trial, potential=1.0) for trial in trials]


def test_while_a_batch_is_judged_the_device_renders_the_next_and_one_more_is_at_hand(
    settings: Settings,
) -> None:
    device, woken = JudgedElsewhere(), threading.Semaphore(0)
    worker = DeviceWorker(device, cast(Records, OneRunning()), settings, woken.release)
    assert worker.at_once() == 1
    with ThreadPoolExecutor(3) as pool:
        begun = []
        for number in range(3):
            task = replace(EDIT, instruction=f"{number}", equipment=settings.equipment)
            begun.append(pool.submit(worker.batch, batch(task)))
            assert device.rendered.get(timeout=PATIENCE) == f"{number}"
            assert woken.acquire(timeout=PATIENCE)
            assert worker.at_once() == 3 + number
        device.answered.set()
        for each in begun:
            assert len(each.result()["candidates"]) == 1
    assert worker.at_once() == 1


def test_a_device_that_is_not_let_go_is_free_after_the_batch(settings: Settings) -> None:
    worker = DeviceWorker(Device(), cast(Records, OneRunning()), settings)
    for _ in range(2):
        worker.batch(batch(replace(EDIT, equipment=settings.equipment)))
        assert worker.at_once() == 1
