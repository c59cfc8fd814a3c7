"""The corpus of hostile requests against a real gunicorn: no crash, no 5xx, no hang."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from tests.hostile.requests import hostile_bodies, hostile_requests
from tests.patience import PATIENCE
from tests.unit.labelstudio.support import FIXTURES
from tests.web_server import Server, serving

HOSTILE = list(hostile_requests())
RECORDED = [json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))]


@pytest.fixture(scope="module", params=["", "http://127.0.0.1:9"], ids=["alone", "connected"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    limits = {
        "EACPS_REQUEST_HEAD_SECONDS": "1",
        "EACPS_REQUEST_SECONDS": "5",
        "EACPS_PREDICT_WAIT_SECONDS": "0",
        "LABEL_STUDIO_URL": request.param,
    }
    with serving(tmp_path_factory.mktemp("hostile"), **limits) as running:
        yield running


def test_no_request_gives_a_server_error_or_no_end(server: Server) -> None:
    sent: list[tuple[str, socket.socket]] = []
    answers: dict[str, bytes] = {}
    for position, (name, data) in enumerate(HOSTILE):
        made = server.open()
        # It may be refused before everything is sent.
        with suppress(ConnectionError):
            made.sendall(data)
        sent.append((name, made))
        # Some together, because incomplete ones take until their deadline.
        if len(sent) == 40 or position + 1 == len(HOSTILE):
            for known, client in sent:
                answers[known] = _received(client)
            sent.clear()
            assert server.is_up()
    for name, received in answers.items():
        for status in re.findall(rb"HTTP/1\.1 (\d+)", received):
            # 501 says that a transfer coding is not known.
            assert int(status) < 500 or status == b"501", (name, received[:300])
    assert sum(received.startswith(b"HTTP/1.1 ") for received in answers.values()) > 150
    _assert_unharmed(server)


def test_no_body_gives_a_server_error(server: Server) -> None:
    with requests.Session() as session:
        for body in hostile_bodies(RECORDED, 400, seed=7):
            for path in ("/predict", "/webhook"):
                answer = session.post(
                    f"{server.url}{path}", data=json.dumps(body), timeout=PATIENCE
                )
                assert answer.status_code in (200, 400, 413), (body, answer.text)
                if path == "/predict" and isinstance(body.get("tasks"), list):
                    _assert_one_each(body["tasks"], answer)
    _assert_unharmed(server)


def _assert_one_each(tasks: list[Any], answer: requests.Response) -> None:
    results = answer.json()["results"]
    assert len(results) == len(tasks)
    assert all(isinstance(result, dict) for result in results)


def _assert_unharmed(server: Server) -> None:
    log = server.log()
    assert log.count("Booting worker") == 1, log[-3000:]
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]


def _received(client: socket.socket) -> bytes:
    received = b""
    with client, suppress(ConnectionResetError):
        while data := client.recv(65_536):
            received += data
    return received
