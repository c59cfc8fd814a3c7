"""The job client on a real database, without workers."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from eacps.domain import Failure, to_json
from eacps.jobs import names
from eacps.jobs.client import JobClient, NoSuchJobError
from eacps.jobs.codec import encode
from eacps.jobs.contract import Job
from eacps.jobs.database import Tables, open_engine, prepare
from eacps.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def client(settings: Settings) -> Iterator[JobClient]:
    client = JobClient(settings)
    yield client
    client.close()


def test_a_job_is_known_as_soon_as_it_is_handed_in(client: JobClient) -> None:
    assert client.submit(Job("a", {"task": 7, "text": "rød hat"}))
    status = client.status("a")
    assert status is not None
    assert (status.state, status.origin) == ("queued", {"task": 7, "text": "rød hat"})
    assert client.result("a") is None


def test_the_same_job_is_taken_once(client: JobClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: client.submit(Job("a", {})), range(16)))
    assert sum(taken) == 1
    assert client.submit_many([Job("a", {}), Job("b", {}), Job("b", {})]) == 1
    assert client.counts()["queued"] == 2


def test_jobs_survive_the_process_that_handed_them_in(
    client: JobClient, settings: Settings
) -> None:
    client.submit(Job("a", {}))
    client.close()
    other = JobClient(settings)
    assert [status.id for status in other.list()] == ["a"]
    other.close()


def test_a_cancelled_job_can_be_retried(client: JobClient) -> None:
    client.submit(Job("a", {"task": 7}, priority=1))
    assert not client.retry("a")
    assert client.cancel("a")
    assert not client.cancel("a")
    outcome = client.result("a")
    assert isinstance(outcome, Failure)
    assert outcome.code == "cancelled"
    assert client.retry("a")
    status = client.status("a")
    assert status is not None
    assert (status.state, status.origin) == ("queued", {"task": 7})


def fail(settings: Settings, job: str, code: str, hours_ago: float = 0.0) -> None:
    """What an orchestrator stores when a job fails."""
    engine = open_engine(prepare(settings))
    table = Tables(engine).status
    moment = int((time.time() - hours_ago * 3600) * 1000)
    ended = {"failure": to_json(Failure(code, "It failed."))}
    with engine.begin() as connection:
        connection.execute(
            sa.update(table)
            .where(table.c.workflow_uuid == names.job_workflow(job))
            .values(status="SUCCESS", output=encode(ended), updated_at=moment, completed_at=moment)
        )
    engine.dispose()


@pytest.fixture
def failures(client: JobClient, settings: Settings) -> JobClient:
    """Four jobs that failed, one that was cancelled, and one that waits."""
    every = ("now", "too", "earlier", "other", "cancelled", "waiting")
    client.submit_many([Job(name, {"task": name}, priority=1) for name in every])
    client.cancel("cancelled")
    for name in ("now", "too"):
        fail(settings, name, "internal_error")
    fail(settings, "earlier", "internal_error", hours_ago=5)
    fail(settings, "other", "bad_image")
    return client


def test_failed_jobs_are_found_by_time_and_code(failures: JobClient) -> None:
    assert failures.failed().keys() == {"now", "too", "earlier", "other"}
    assert failures.failed(code="internal_error").keys() == {"now", "too", "earlier"}
    assert failures.failed(time.time() - 3600, "internal_error").keys() == {"now", "too"}
    assert failures.failed()["other"] == "bad_image"
    assert failures.failed(code="nothing") == {}


def test_all_failed_jobs_run_again_once(failures: JobClient) -> None:
    asked = [*failures.failed(), "cancelled", "waiting", "nobody"]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(failures.retry_all, [asked] * 4)) == 4
    counts = failures.counts()
    assert (counts["queued"], counts["cancelled"], counts["failed"]) == (5, 1, 0)
    status = failures.status("other")
    assert status is not None
    assert status.origin == {"task": "other"}


def test_more_failed_jobs_than_fit_one_query_run_again(
    client: JobClient, settings: Settings
) -> None:
    client.submit_many([Job(f"job-{number}", {}) for number in range(1100)])
    engine = open_engine(prepare(settings))
    with engine.begin() as connection:
        ended = encode({"failure": to_json(Failure("x", "y"))})
        connection.execute(sa.update(Tables(engine).status).values(status="SUCCESS", output=ended))
    engine.dispose()
    assert client.retry_all(client.failed()) == 1100
    assert client.counts()["queued"] == 1100


def test_only_jobs_of_the_asked_state_are_listed(client: JobClient) -> None:
    client.submit_many([Job(f"job-{number}", {}) for number in range(5)])
    client.cancel("job-3")
    assert [status.id for status in client.list(state="cancelled")] == ["job-3"]
    waiting = client.list(limit=2, state="queued")
    assert [status.state for status in waiting] == ["queued", "queued"]
    assert client.list(state="delivering") == client.list(state="failed") == []
    assert len(client.list(limit=2)) == 2
    assert client.counts()["cancelled"] == 1


def test_unknown_jobs_are_told_apart_from_unfinished_ones(client: JobClient) -> None:
    assert client.status("nobody") is None
    assert client.statuses(["nobody"]) == {}
    for action in (client.cancel, client.retry):
        with pytest.raises(NoSuchJobError, match="nobody"):
            action("nobody")


def test_only_ended_jobs_are_forgotten(client: JobClient) -> None:
    client.submit_many([Job("ended", {}), Job("waiting", {})])
    client.cancel("ended")
    assert client.prune(days=1) == 0
    assert client.prune(days=0) == 1
    assert [status.id for status in client.list()] == ["waiting"]


def test_the_database_is_for_its_owner_only(client: JobClient, settings: Settings) -> None:
    client.submit(Job("a", {"secret": "data"}))
    files = list(settings.data_dir.glob("jobs.sqlite*"))
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_odd_names_and_values_are_only_data(client: JobClient) -> None:
    odd = "'; DROP TABLE workflow_status; -- %_:\u2028 \N{BEAR FACE}"
    assert client.submit(Job(odd, {odd: [odd, None, 1.5]}))
    status = client.status(odd)
    assert status is not None
    assert status.origin == json.loads(json.dumps({odd: [odd, None, 1.5]}))
