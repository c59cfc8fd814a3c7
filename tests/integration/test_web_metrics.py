"""The metrics and log lines of a real web server with several processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from eacps.labelstudio.web.observing import UNKNOWN
from tests.patience import PATIENCE, wait_until
from tests.prometheus_text import Samples, samples, value
from tests.web_server import Server, serving


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
