"""/metrics: what the database says of the fleet, and the requests of all processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from eacps.jobs.contract import Delays, Job, JobState, WorkerStatus
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.observing import UNKNOWN
from eacps.labelstudio.web.request_ids import request_id
from eacps.settings import Settings
from tests.patience import PATIENCE, wait_until
from tests.unit.labelstudio.support import Queue
from tests.web_server import Server, serving

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[(name, frozenset(labels.items()))]


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("metrics")
    with serving(folder, WEB_CONCURRENCY="2", EACPS_LOG_FORMAT="json") as running:
        yield running


def test_requests_are_counted_over_all_processes_of_the_server(server: Server) -> None:
    def page() -> Samples:
        return samples(requests.get(f"{server.url}/metrics", timeout=PATIENCE).text)

    def asked() -> float:
        labels = {"route": "/webhook", "method": "POST", "status": "200"}
        return page().get(("eacps_http_requests_total", frozenset(labels.items())), 0.0)

    before = asked()
    for _ in range(20):
        # A new connection each time, which any of the processes may accept.
        requests.post(f"{server.url}/webhook", json={"action": "x"}, timeout=PATIENCE)
    # Whichever process answers.
    assert {asked() - before for _ in range(10)} == {20.0}


def test_paths_and_methods_that_nobody_serves_are_one_series(server: Server) -> None:
    for path in ("/no-such-page", "/artifacts/a/b/c"):
        requests.request("BREW", f"{server.url}{path}", timeout=PATIENCE)
    found = samples(requests.get(f"{server.url}/metrics", timeout=PATIENCE).text)
    assert value(
        found, "eacps_http_requests_total", route=UNKNOWN, method=UNKNOWN, status="404"
    ) >= 2  # fmt: skip


def test_what_is_refused_before_it_arrives_is_counted(server: Server) -> None:
    status, _ = server.asked(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n")
    assert status == 400
    found = samples(requests.get(f"{server.url}/metrics", timeout=PATIENCE).text)
    refused = [number for (name, _), number in found.items() if name == "eacps_http_refusals_total"]
    assert sum(refused) >= 1


def test_all_lines_of_the_server_are_json_and_name_the_request(server: Server) -> None:
    headers = {"X-Request-ID": "follow-me"}
    signed = f"{server.url}/artifacts/{'5' * 32}/%0Aforged?token=s3cr3t"
    requests.get(signed, headers=headers, timeout=PATIENCE)
    wait_until(lambda: "follow-me" in server.log(), server.log)
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {"Starting", "Listening"} <= {line["message"].split()[0] for line in lines}
    [line] = [line for line in lines if line.get("request") == "follow-me"]
    assert line["logger"] == "eacps.access"
    assert (line["method"], line["status"]) == ("GET", 404)
    assert line["path"] == "/artifacts/***/%0Aforged"
    assert "s3cr3t" not in server.log()
    assert "5555" not in server.log()
