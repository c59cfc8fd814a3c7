"""One request from Label Studio to its images: in the logs, spans and metrics of all processes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.label_studio_server import LabelStudioServer, free_port
from tests.patience import PATIENCE
from tests.prometheus_text import Samples, samples, value
from tests.span_receiver import ReceivedSpan, SpanReceiver, receiving_spans
from tests.stack import Backend, bear_tasks, connected_project, wait_until

CANDIDATES = 2


def two_free_ports() -> int:
    """A free port that another one follows."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if port < 65_535 and probe.connect_ex(("127.0.0.1", port + 1)):
                return port


@pytest.fixture(scope="module")
def collector() -> Iterator[SpanReceiver]:
    with receiving_spans() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def observed(server: LabelStudioServer, collector: SpanReceiver) -> Iterator[Backend]:
    with Backend(
        server,
        EACPS_LOG_FORMAT="json",
        EACPS_METRICS_PORT=str(two_free_ports()),
        EACPS_STRATEGY="best_of_n",
        EACPS_STRATEGY_PARAMS=json.dumps({"n": CANDIDATES}),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def task(server: LabelStudioServer, observed: Backend) -> int:
    """A task with its prediction."""
    project = connected_project(server, observed)
    (number,) = server.import_tasks(project, bear_tasks(server, project, 1, seed=11))
    wait_until(lambda: server.predictions(number), observed.log)
    wait_until(lambda: lines(observed, message="delivered", task=str(number)), observed.log)
    return number


def lines(backend: Backend, **wanted: str) -> list[dict[str, Any]]:
    """The log lines with these fields. The first line that `eacps serve` prints is no log line."""
    every = [json.loads(line) for line in backend.log().splitlines() if line.startswith("{")]
    return [line for line in every if wanted.items() <= line.items()]


def test_one_id_leads_from_the_webhook_to_the_image(observed: Backend, task: int) -> None:
    (delivered,) = lines(observed, message="delivered", task=str(task))
    request = delivered["request"]
    wait_until(lambda: lines(observed, request=request, logger="eacps.access"), observed.log)
    followed = lines(observed, request=request)
    assert {line["process"] for line in followed} == {"web", "orchestrator", "worker 0"}
    (asked,) = [line for line in followed if line["logger"] == "eacps.access"]
    assert (asked["path"], asked["status"]) == ("/webhook", 200)
    worked = [line for line in followed if line["process"] != "web"]
    assert {line["task"] for line in worked} == {str(task)}
    assert {line["job"] for line in worked} == {delivered["job"]}
    stored = [line for line in worked if "artifact" in line]
    assert {line["candidate"] for line in stored} == {"c1", "c2"}
    assert {line["artifact"] for line in stored} <= observed.images().keys()
    assert all(line["key"] == delivered["key"] and line["batch"] for line in stored)


def test_a_client_may_choose_the_id(observed: Backend) -> None:
    headers = {"X-Request-ID": "chosen-by-a-client"}
    body = {"action": "TASKS_CREATED", "project": {"id": 1}, "tasks": []}
    answer = requests.post(f"{observed.url}/webhook", json=body, headers=headers, timeout=PATIENCE)
    assert answer.headers["X-Request-ID"] == "chosen-by-a-client"
    wait_until(lambda: lines(observed, request="chosen-by-a-client"), observed.log)


def test_the_spans_of_all_processes_make_one_trace(
    observed: Backend, collector: SpanReceiver, task: int
) -> None:
    def of_task() -> list[ReceivedSpan]:
        deliveries = [
            span
            for span in collector.spans
            if span.name == "delivery" and span.attributes.get("eacps.task") == str(task)
        ]
        return [span for span in collector.spans if span.trace in {d.trace for d in deliveries}]

    names = {"request", "prepare", "search", "batch", "render", "score", "delivery"}
    wait_until(lambda: {span.name for span in of_task()} == names, observed.log)
    spans = of_task()
    by_id = {span.id: span.name for span in spans}
    parents = {span.name: by_id.get(span.parent, "") for span in spans}
    assert parents == {
        "request": "",
        "prepare": "request",
        "search": "request",
        "batch": "search",
        "render": "batch",
        "score": "batch",
        "delivery": "request",
    }
    assert {span.process for span in spans} == {"web", "orchestrator", "worker 0"}
    (delivered,) = lines(observed, message="delivered", task=str(task))
    assert {span.attributes["eacps.request"] for span in spans} == {delivered["request"]}


def test_each_process_counts_its_work(observed: Backend, task: int) -> None:
    port = int(observed.environment["EACPS_METRICS_PORT"])

    def page(number: int) -> Samples:
        return samples(requests.get(f"http://127.0.0.1:{number}/metrics", timeout=PATIENCE).text)

    assert value(page(port), "eacps_deliveries_total", outcome="delivered") >= 1
    assert value(page(port), "eacps_searches_total", outcome="done") >= 1
    worker = page(port + 1)
    assert value(worker, "eacps_renders_total", outcome="done") >= CANDIDATES
    assert value(worker, "eacps_render_seconds_count") >= CANDIDATES
    assert value(worker, "eacps_denoiser_evaluations_total") > 0
    assert value(worker, "eacps_model_load_seconds") > 0
    web = page(observed.port)
    assert value(web, "eacps_jobs", state="done") >= 1
    assert value(web, "eacps_workers_ready") == 1


def test_it_is_ready(observed: Backend) -> None:
    answer = requests.get(f"{observed.url}/ready", timeout=PATIENCE)
    assert answer.status_code == 200
    assert [name for name, check in answer.json()["checks"].items() if not check["ok"]] == []
