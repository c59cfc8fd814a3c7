"""What the orchestrator looks after from time to time, on a real database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from eacps.domain import EditTask, Failure, SearchResult, to_json
from eacps.errors import RetryLaterError
from eacps.jobs import names, periodic
from eacps.jobs.client import JobClient
from eacps.jobs.codec import JsonSerializer, encode
from eacps.jobs.contract import Job, KnownOrigins
from eacps.jobs.database import Records, Row, open_engine, prepare
from eacps.jobs.periodic import OutageProbe, PeriodicWork, catch_up, deliver_again, origins_since
from eacps.settings import Settings

FAILURE = to_json(Failure("label_studio_stumbled", "Label Studio answered 500."))
MINUTE = 60.0


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


class Hooks:
    """Hooks that overlook what the test says."""

    def __init__(self, *portions: Sequence[Job] | Exception) -> None:
        self.portions = portions
        self.asked = 0
        self.known: list[Mapping[str, Any]] = []

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        raise NotImplementedError

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        raise NotImplementedError

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        raise NotImplementedError

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        """Nobody waits here."""

    def overlooked(self, known: KnownOrigins) -> Iterable[Sequence[Job]]:
        self.asked += 1
        for portion in self.portions:
            if isinstance(portion, Exception):
                raise portion
            yield portion
            self.known = list(known(0))


def ended(records: Records, job: str, **output: Any) -> None:
    """A delivery of this job that has ended so."""
    from dbos import DBOSClient

    dbos = DBOSClient(system_database_engine=records.engine, serializer=JsonSerializer())
    name = names.delivery_workflow(job)
    content = {"job": to_json(Job(job, {"task": 7})), "key": "k", "failure": None}
    dbos.enqueue(names.enqueue_options(names.DELIVERY, name, 10), content)
    own = names.job_workflow(job)
    dbos.enqueue(names.enqueue_options(names.EDIT_TASK, own, 10), content["job"])
    status = records.tables.status
    with records.engine.begin() as connection:
        for workflow, result in ((name, output), (own, {"failure": None})):
            values = {"output": encode(result), "completed_at": int(time.time() * 1000)}
            connection.execute(
                sa.update(status)
                .where(status.c.workflow_uuid == workflow)
                .values(status="SUCCESS", **values)
            )


def delivery(records: Records, job: str) -> Row:
    name = names.delivery_workflow(job)
    return records.rows([name])[name]


def test_only_deliveries_that_failed_for_a_passing_reason_are_tried_again(
    records: Records,
) -> None:
    ended(records, "delivered", failure=None)
    ended(records, "stumbled", failure=FAILURE, temporary=True)
    ended(records, "refused", failure=FAILURE, temporary=False)
    ended(records, "of an earlier version", failure=FAILURE)
    assert deliver_again(records) == 0, "not at once"
    assert deliver_again(records, time.time() + 5 * MINUTE) == 1
    row = delivery(records, "stumbled")
    assert (row.status, row.input["tries"], row.input["key"]) == ("ENQUEUED", 1, "k")
    assert delivery(records, "refused").status == "SUCCESS"
    assert deliver_again(records, time.time() + 600 * MINUTE) == 0, "it is queued already"


def test_the_pauses_between_deliveries_grow_to_an_hour(records: Records) -> None:
    ended(records, "stumbled", failure=FAILURE, temporary=True)
    output = {"failure": FAILURE, "temporary": True}
    pauses = []
    for _ in range(7):
        done = time.time()
        # The database counts in milliseconds.
        pauses.append(next(m for m in range(200) if deliver_again(records, done + m * MINUTE + 1)))
        status = records.tables.status
        with records.engine.begin() as connection:
            connection.execute(
                sa.update(status).values(
                    status="SUCCESS", output=encode(output), completed_at=int(done * 1000)
                )
            )
    assert pauses == [5, 10, 20, 40, 60, 60, 60]


def test_what_was_overlooked_is_queued_once(records: Records, client: JobClient) -> None:
    client.submit(Job("known", {"task": 1}))
    hooks = Hooks([Job("known", {"task": 1}), Job("new", {"task": 2})], [Job("newer", {"task": 3})])
    assert catch_up(hooks, records, client) == 2
    assert catch_up(hooks, records, client) == 0
    assert client.counts()["queued"] == 3
    assert sorted(origin["task"] for origin in hooks.known) == [1, 2, 3]


def test_a_portion_is_stored_before_the_next_is_asked_for(
    records: Records, client: JobClient
) -> None:
    hooks = Hooks([Job("a", {})], RetryLaterError("Label Studio is down."))
    with pytest.raises(RetryLaterError):
        catch_up(hooks, records, client)
    assert client.status("a") is not None


def test_origins_are_those_of_the_jobs_since(records: Records, client: JobClient) -> None:
    client.submit(Job("a", {"task": 7}))
    assert list(origins_since(records, time.time() - MINUTE)) == [{"task": 7}]
    assert list(origins_since(records, time.time() + MINUTE)) == []


def run_due(made: PeriodicWork, *moments: float) -> None:
    for moment in moments:
        made.run_due(moment)


def test_tasks_are_looked_for_at_the_start_and_every_hour(
    settings: Settings, records: Records
) -> None:
    hooks = Hooks()
    made = PeriodicWork(settings, hooks, records)
    run_due(made, 0)
    assert hooks.asked == 1
    run_due(made, 15, 1800, 3599)
    assert hooks.asked == 1
    run_due(made, 3600)
    assert hooks.asked == 2


def test_tasks_are_never_looked_for_if_the_setting_says_so(
    settings: Settings, records: Records
) -> None:
    hooks = Hooks()
    never = settings.model_copy(update={"catch_up_minutes": 0})
    run_due(PeriodicWork(never, hooks, records), 0, 9999)
    assert hooks.asked == 0


def test_when_label_studio_is_away_it_is_asked_again_soon_and_then_less_often(
    settings: Settings, records: Records
) -> None:
    hooks = Hooks(RetryLaterError("Label Studio is down."))
    made = PeriodicWork(settings, hooks, records)
    run_due(made, *range(0, 20 * 60, 15))
    assert hooks.asked == 5  # After 0, 1, 3, 7 and 15 minutes.
    hooks.portions = ()
    run_due(made, 31 * 60)
    assert hooks.asked == 6
    run_due(made, 32 * 60, 90 * 60)
    assert hooks.asked == 6


def test_tasks_are_looked_for_after_an_outage_of_the_database(
    settings: Settings, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = Hooks()
    made = PeriodicWork(settings, hooks, records)
    run_due(made, 0)
    cut = iter([False, True, False])
    monkeypatch.setattr(OutageProbe, "was_cut", lambda _: next(cut))
    run_due(made, 15, 30, 45)
    assert hooks.asked == 2


def test_an_error_in_one_task_does_not_end_the_periodic_work(
    settings: Settings, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = Hooks(KeyError("x"))
    monkeypatch.setattr(periodic, "deliver_again", lambda _: 1 / 0)
    run_due(PeriodicWork(settings, hooks, records), 0, 60)
    assert hooks.asked == 2


def test_even_a_short_absence_of_the_database_is_noticed(records: Records) -> None:
    line = OutageProbe(records)
    assert not line.was_cut()
    held = line._connection
    assert held is not None
    # What a restart of Postgres does to every connection.
    held.connection.dbapi_connection.close()  # type: ignore[union-attr]
    assert not line.was_cut()
    assert line.was_cut()
    assert not line.was_cut()
