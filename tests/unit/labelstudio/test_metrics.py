"""/metrics: what the database says of the fleet, and the requests of all processes."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from eacps.jobs.contract import Delays, Job, JobState, WorkerStatus
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.request_ids import request_id
from eacps.settings import Settings
from tests.prometheus_text import samples, value
from tests.unit.labelstudio.support import Queue


class Fleet(Queue):
    """A queue with one job, one retry and one worker."""

    def __init__(self, equipment: str) -> None:
        super().__init__()
        self.equipment = equipment
        self.submit(Job("j", {}))

    def delays(self) -> Delays:
        return Delays(12.5, 3.0, {"prepare": 0, "deliver": 2})

    def workers(self) -> list[WorkerStatus]:
        return [WorkerStatus("a", "worker", "cpu", 1, 1, time.time(), self.equipment, "waits")]


def test_the_fleet_is_counted_from_the_database(settings: Settings) -> None:
    fleet = Fleet(settings.equipment)
    answer = create_app(settings, open_jobs=lambda _: fleet).test_client().get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    found = samples(answer.text)
    assert value(found, "eacps_database_up") == 1
    assert value(found, "eacps_jobs", state="queued") == 1
    assert value(found, "eacps_jobs", state="failed") == 0
    assert value(found, "eacps_oldest_queued_job_seconds") == 12.5
    assert value(found, "eacps_jobs_retrying", step="deliver") == 2
    assert value(found, "eacps_processes", role="worker") == 1
    assert value(found, "eacps_processes", role="orchestrator") == 0
    assert value(found, "eacps_workers_ready") == 1
    assert value(found, "eacps_processes_in_outage") == 1
    assert not [name for name, _ in found if name.startswith(("eacps_render", "eacps_batch_"))]


def test_a_database_that_is_away_still_leaves_the_other_metrics(settings: Settings) -> None:
    class Away(Queue):
        def counts(self) -> Mapping[JobState, int]:
            raise RuntimeError("no database")

    answer = create_app(settings, open_jobs=lambda _: Away()).test_client().get("/metrics")
    assert answer.status_code == 200
    found = samples(answer.text)
    assert value(found, "eacps_database_up") == 0
    assert not [name for name, _ in found if name == "eacps_jobs"]


def test_metrics_need_the_password(settings: Settings, queue: Queue) -> None:
    locked = settings.model_copy(update={"basic_auth_user": "u", "basic_auth_pass": SecretStr("p")})
    web = create_app(locked, open_jobs=lambda _: queue).test_client()
    assert web.get("/metrics").status_code == 401
    assert web.get("/metrics", auth=("u", "p")).status_code == 200


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        ("from-label-studio.77:a_b", True),
        ("0" * 128, True),
        ("0" * 129, False),
        ("", False),
        ("a b", False),
        ("a\nINFO forged", False),
        ("-a", False),
        ("é", False),
    ],
)
def test_a_request_keeps_its_id_if_it_is_harmless(
    settings: Settings, queue: Queue, sent: str, is_kept: bool
) -> None:
    assert (request_id(sent) == sent) == is_kept
    web = create_app(settings, open_jobs=lambda _: queue).test_client()
    if "\n" not in sent:
        answered = web.get("/health", headers={"X-Request-ID": sent}).headers["X-Request-ID"]
        assert (answered == sent) == is_kept
        assert answered
