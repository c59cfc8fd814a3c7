"""Projects share the workers by weight, and wait for tomorrow when their quota is used up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from eacps.domain import to_json
from eacps.errors import RetryLaterError
from eacps.jobs import names, shares
from eacps.jobs.client import JobClient
from eacps.jobs.contract import INTERACTIVE_PRIORITY, Job, over_quota_words
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.delays import delays
from eacps.jobs.periodic import tell_waiting
from eacps.jobs.shares import LAST_PRIORITY, release, today
from eacps.settings import Settings
from tests.databases import each_database

DAY = 86_400.0


@pytest.fixture(params=each_database())
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    make: Callable[[Path], str] = request.param
    return Settings(
        _env_file=None,
        data_dir=tmp_path,
        database_url=make(tmp_path),
        project_weights={"3": 3.0, "*": 1.0},
        project_quotas={"7": 20},
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[JobClient]:
    client = JobClient(settings)
    yield client
    client.close()


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    records = Records(open_engine(prepare(settings)))
    yield records
    records.engine.dispose()


def job(project: int | str, number: int, priority: int = 10, **more: Any) -> Job:
    facts = {"project": str(project), "candidates": 8, "cost": 8.0, **more}
    return Job(f"{project}-{number}", {"project": project}, priority, **facts)


def queued(records: Records, queue: str = names.JOBS_QUEUE) -> list[str]:
    """The jobs of a queue, in the order in which they begin."""
    status = records.tables.status
    query = (
        sa.select(status.c.workflow_uuid)
        .where(status.c.queue_name == queue, status.c.status == "ENQUEUED")
        .order_by(status.c.priority, status.c.created_at, status.c.workflow_uuid)
    )
    with records.engine.connect() as connection:
        return [names.job_of(name) for name in connection.execute(query).scalars()]


def begin(records: Records, jobs: list[str]) -> None:
    status = records.tables.status
    wanted = [names.job_workflow(each) for each in jobs]
    with records.engine.begin() as connection:
        connection.execute(
            sa.update(status).where(status.c.workflow_uuid.in_(wanted)).values(status="PENDING")
        )


def of(jobs: list[str], project: int) -> int:
    return sum(each.startswith(f"{project}-") for each in jobs)


def test_a_project_with_ten_tasks_does_not_wait_for_one_with_a_thousand(
    client: JobClient, records: Records
) -> None:
    client.submit_many([job(1, number) for number in range(300)])
    client.submit_many([job(2, number) for number in range(10)])
    order = queued(records)
    assert of(order[:22], 2) == 10
    assert order[0] == "1-0"
    assert [each for each in order if each.startswith("2-")] == [f"2-{n}" for n in range(10)]


def test_shares_are_proportional_to_weights(client: JobClient, records: Records) -> None:
    client.submit_many([job(1, number) for number in range(100)])
    client.submit_many([job(3, number) for number in range(100)])
    first = queued(records)[:80]
    assert 58 <= of(first, 3) <= 62


def test_shares_are_of_work_and_not_of_tasks(client: JobClient, records: Records) -> None:
    client.submit_many([job(1, number, cost=24.0) for number in range(100)])
    client.submit_many([job(2, number, cost=8.0) for number in range(100)])
    assert 58 <= of(queued(records)[:80], 2) <= 62


def test_who_comes_later_gets_no_share_for_the_time_before(
    client: JobClient, records: Records
) -> None:
    client.submit_many([job(1, number) for number in range(200)])
    begin(records, [f"1-{number}" for number in range(100)])
    client.submit_many([job(2, number) for number in range(100)])
    assert 18 <= of(queued(records)[:40], 2) <= 22


def test_an_idle_fleet_forgets_what_was_used(client: JobClient, records: Records) -> None:
    client.submit_many([job(1, number) for number in range(50)])
    for number in range(50):
        client.cancel(f"1-{number}")
    client.submit_many([job(2, 0), job(1, 99)])
    assert [job_priority(records, each) for each in ("2-0", "1-99")] == [10, 10]


def job_priority(records: Records, identity: str) -> int:
    row = records.rows([names.job_workflow(identity)])[names.job_workflow(identity)]
    return int(row.input["priority"])


def test_the_priority_stays_a_number_that_the_database_takes(
    client: JobClient, records: Records
) -> None:
    client.submit_many([job(1, number, cost=9e8) for number in range(3)])
    assert job_priority(records, "1-2") == LAST_PRIORITY
    assert len(queued(records)) == 3


def test_what_somebody_waits_for_goes_first_whatever_its_project(
    client: JobClient, records: Records
) -> None:
    client.submit_many([job(1, number) for number in range(5)])
    client.submit(job(1, 99, INTERACTIVE_PRIORITY))
    assert queued(records, names.INTERACTIVE_QUEUE) == ["1-99"]
    assert job_priority(records, "1-99") == INTERACTIVE_PRIORITY


def test_jobs_without_a_project_are_stored_as_before(client: JobClient, records: Records) -> None:
    client.submit(Job("a", {"task": 7}))
    row = records.rows(["job:a"])["job:a"]
    assert row.input == to_json(Job("a", {"task": 7}))
    assert not {"project", "candidates", "cost"} & row.input.keys()


# --- quotas


def test_tasks_over_the_quota_wait_for_tomorrow_and_say_so(
    client: JobClient, records: Records, settings: Settings
) -> None:
    assert client.submit_many([job(7, number) for number in range(5)]) == 5
    client.submit(job(7, 99, INTERACTIVE_PRIORITY, candidates=1))
    client.submit(job(1, 0))
    assert sorted(queued(records)) == ["1-0", "7-0", "7-1"]
    assert sorted(queued(records, names.WAITING_QUEUE)) == ["7-2", "7-3", "7-4", "7-99"]
    status = client.status("7-2")
    assert status is not None
    assert status.state == "queued"
    assert "EACPS_PROJECT_QUOTAS" in status.note
    assert "20" in status.note
    [over] = client.over_quota()
    assert (over.project, over.jobs, over.quota) == ("7", 4, 20)
    assert "4 tasks wait until tomorrow" in over_quota_words(over)
    assert client.counts()["queued"] == 7
    assert client.submit_many([job(7, 2)]) == 0, "still the same job"
    assert delays(records).retrying == {"prepare": 0, "deliver": 0}

    assert release(records, settings) == 0
    tomorrow = float(_noon(1))
    assert release(records, settings, tomorrow) == 2
    assert [each for each in queued(records) if each in ("7-2", "7-3")] == ["7-2", "7-3"]
    after = client.status("7-2")
    assert after is not None
    assert after.note == ""
    assert release(records, settings, tomorrow) == 0
    assert release(records, settings, float(_noon(2))) == 2
    assert client.over_quota() == []
    assert len(queued(records)) == 7


def _noon(days: int) -> float:
    import time

    return time.time() + days * DAY


def test_a_task_larger_than_the_quota_is_the_first_of_a_day(
    client: JobClient, records: Records, settings: Settings
) -> None:
    client.submit_many([job(7, 0, candidates=500), job(7, 1, candidates=500)])
    assert queued(records) == ["7-0"]
    assert release(records, settings, _noon(1)) == 1
    assert queued(records) == ["7-0", "7-1"]


def test_a_higher_quota_lets_tasks_begin_at_once(
    client: JobClient, records: Records, settings: Settings
) -> None:
    client.submit_many([job(7, number) for number in range(250)])
    assert len(queued(records)) == 2
    higher = settings.changed({"project_quotas": {"*": 80}})
    assert release(records, higher) == 8
    assert release(records, settings.changed({"project_quotas": {}})) == 240
    assert len(queued(records)) == 250


def test_cancelled_and_restarted_tasks_no_longer_wait(
    client: JobClient, records: Records, settings: Settings
) -> None:
    client.submit_many([job(7, number) for number in range(5)])
    assert client.cancel("7-2")
    assert client.restart("7-3")
    assert release(records, settings, _noon(1)) == 3, "settled, whatever became of them"
    assert sorted(queued(records)) == ["7-0", "7-1", "7-3", "7-4"]
    status = client.status("7-2")
    assert status is not None
    assert status.state == "cancelled"


def test_processes_that_release_at_once_begin_each_task_once(
    client: JobClient, records: Records, settings: Settings
) -> None:
    client.submit_many([job(7, number, candidates=1) for number in range(60)])
    assert len(queued(records)) == 20
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda _: release(records, settings, _noon(1)), range(4)))
    assert sum(moved) == 20
    assert len(queued(records)) == 40


def test_tasks_that_waited_for_tomorrow_get_their_projects_share(
    client: JobClient, records: Records, settings: Settings
) -> None:
    client.submit_many([job(7, number, candidates=1) for number in range(40)])
    client.submit_many([job(7, 40 + number, INTERACTIVE_PRIORITY) for number in range(5)])
    begin(records, [f"7-{number}" for number in range(20)])
    client.submit_many([job(1, number) for number in range(100)])
    assert release(records, settings.changed({"project_quotas": {}})) == 25
    assert queued(records, names.INTERACTIVE_QUEUE) == []
    # Neither first, because they are older, nor last, because they were counted twice.
    assert 13 <= of(queued(records)[:40], 7) <= 22


class Told:
    """Hooks that note what tasks are told."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.notes: list[tuple[Any, str]] = []
        self.fails = fails

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.notes.append((origin["project"], note))


def test_the_tasks_are_told_once_and_after_an_outage(
    client: JobClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit_many([job(7, number) for number in range(5)])
    down: Any = Told(RetryLaterError("Label Studio is down."))
    with pytest.raises(RetryLaterError):
        tell_waiting(down, records, client)
    hooks: Any = Told()
    assert tell_waiting(hooks, records, client) == 3
    assert tell_waiting(hooks, records, client) == 0
    assert {project for project, _ in hooks.notes} == {7}
    assert all("tomorrow" in note for _, note in hooks.notes)


def test_days_are_those_of_utc_and_old_ones_are_forgotten(
    client: JobClient, records: Records, settings: Settings
) -> None:
    assert today(0.0) == "1970-01-01"
    client.submit_many([job(7, number) for number in range(9)])
    release(records, settings, _noon(shares.KEPT_DAYS + 2))
    with records.engine.connect() as connection:
        days = list(connection.execute(sa.select(records.tables.usage.c.day)).scalars())
    assert days == [today(_noon(shares.KEPT_DAYS + 2))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"project_weights": {"7": 0}},
        {"project_weights": {"7": float("nan")}},
        {"project_weights": {"seven": 1}},
        {"project_quotas": {"7": 0}},
        {"project_quotas": {"-1": 5}},
    ],
    ids=str,
)
def test_nonsense_in_the_settings_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, **wrong)
