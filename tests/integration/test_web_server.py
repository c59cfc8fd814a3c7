"""The web server under attack: real sockets, a real gunicorn."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from eacps.errors import SettingsError
from eacps.labelstudio.web.password import require_password
from eacps.labelstudio.web.process import require_free_port, web_server
from eacps.settings import Settings
from tests.label_studio_server import free_port
from tests.patience import PATIENCE, wait_until
from tests.web_server import Server, answer, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("web_server"), EACPS_CONNECTIONS_PER_CLIENT="0"
    ) as running:
        yield running


def post(path: str, body: bytes, *headers: str, sent: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body[:sent]


TASKS = json.dumps({"tasks": []}).encode()
SLOW = {
    "silent": b"",
    "head": b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: b\r\n",
    "body": post("/predict", TASKS, sent=3),
    "chunks": b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    "not closing": b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "not reading": b"GET /no-such-page HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000,
}


@pytest.mark.parametrize("kind", SLOW)
def test_many_slow_clients_do_not_keep_others_waiting(server: Server, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(64):
            slow.append(stack.enter_context(server.open()))
            # One that does not read what it is answered may be unable to send more.
            slow[-1].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                slow[-1].sendall(SLOW[kind])
        # Nothing ends the slow ones within this test, so an answer means that they do not matter.
        assert requests.get(f"{server.url}/health", timeout=PATIENCE).json()["status"] == "UP"
        webhook = {"action": "TASKS_CREATED", "tasks": []}
        answered = requests.post(f"{server.url}/webhook", json=webhook, timeout=PATIENCE)
        assert answered.json()["jobs"] == 0
        assert requests.get(f"{server.url}/status.json", timeout=PATIENCE).ok


def test_a_request_may_arrive_byte_by_byte(server: Server) -> None:
    request = post("/predict", TASKS, "Connection: close")
    chunked = b"Transfer-Encoding: chunked\r\n"
    pieces = b"4\r\n" + TASKS[:4] + b"\r\n9;x=y\r\n" + TASKS[4:] + b"\r\n0\r\nX-T: 1\r\n\r\n"
    head = b"\r\nPOST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + chunked
    for whole in (request, head + b"\r\n" + pieces):
        with server.open() as made:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for position in range(len(whole)):
                made.sendall(whole[position : position + 1])
            status, whole_answer = answer(made)
        assert status == 200, whole_answer
        assert b'"results":[]' in whole_answer.replace(b" ", b"")


def test_requests_sent_together_are_all_answered_in_order(server: Server) -> None:
    paths = ["/health", "/no-such-page", "/health", "/status.json"]
    together = b"".join(post(path, b"").replace(b"POST", b"GET") for path in paths)
    last = b"GET /no-such-page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    _, whole = server.asked(together + last)
    codes = [part[:3] for part in whole.split(b"HTTP/1.1 ")[1:]]
    assert codes == [b"200", b"404", b"200", b"200", b"404"]


def test_one_connection_serves_many_requests(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(5):
            assert session.post(f"{server.url}/predict", data=TASKS, timeout=PATIENCE).ok
            assert session.get(f"{server.url}/status", timeout=PATIENCE).ok


def test_a_client_that_asks_before_it_sends_is_told_to_continue(server: Server) -> None:
    with server.open(post("/predict", TASKS, "Expect: 100-continue", sent=0)) as made:
        assert made.recv(100).startswith(b"HTTP/1.1 100 Continue")
        made.sendall(TASKS)
        assert b"HTTP/1.1 200" in made.recv(65_536)


def test_a_large_body_arrives_whole(server: Server) -> None:
    tasks = [{"data": {"image": "x" * 3_000_000}}, 7]
    answered = requests.post(f"{server.url}/predict", json={"tasks": tasks}, timeout=PATIENCE)
    assert len(answered.json()["results"]) == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000, 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (post("/predict", b"").replace(b": 0", b": 999999999999"), 413),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (post("/predict", TASKS, "Transfer-Encoding: chunked"), 400),
        (post("/predict", TASKS, "Content-Length: 3"), 400),
        (post("/predict", TASKS, "Transfer-Encoding: magic"), 400),
        (post("/predict", b"").replace(b": 0", b": -1"), 400),
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /x\r\nConnection: close\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_what_is_wrong_is_answered_in_json(server: Server, request_: bytes, status: int) -> None:
    found, whole = server.asked(request_)
    assert found in (status, 501), whole
    head, _, body = whole.partition(b"\r\n\r\n")
    assert b"X-Content-Type-Options: nosniff" in head
    assert json.loads(body)["error"]["message"]


def test_what_does_not_arrive_in_time_is_ended(tmp_path: Path) -> None:
    limits = {"EACPS_REQUEST_HEAD_SECONDS": "1", "EACPS_REQUEST_SECONDS": "1"}
    with serving(tmp_path, **limits) as server:
        assert server.asked(SLOW["head"])[0] == 408
        assert server.asked(SLOW["body"])[0] == 408
        assert server.asked(SLOW["chunks"])[0] == 408
        assert server.asked(b"") == (0, b"")
        with server.open() as dripping, contextlib.suppress(ConnectionError):
            for _ in range(10_000_000):
                # Bytes that keep coming do not extend the deadline.
                dripping.sendall(b"X")
                time.sleep(0.01)
            raise AssertionError("never ended")


def test_a_client_may_not_have_too_many_connections_but_label_studio_may(tmp_path: Path) -> None:
    limits = {
        "EACPS_CONNECTIONS_PER_CLIENT": "3",
        "LABEL_STUDIO_URL": "http://127.0.0.1:8080",
        "EACPS_TRUSTED_PROXIES": "127.0.1.0/24",
    }
    last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with serving(tmp_path, **limits) as server, contextlib.ExitStack() as stack:

        def asked(source: str, forwarded: str = "") -> int:
            header = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
            return server.asked(last + header.encode() + b"\r\n", source)[0]

        for source in ("127.0.0.1", "127.0.0.2", "127.0.1.1"):
            for _ in range(3):
                stack.enter_context(server.open(SLOW["head"], source))
        assert asked("127.0.0.2") == 429
        assert asked("127.0.0.3") == 200
        assert asked("127.0.0.1") == 200
        assert asked("127.0.1.1") == 200
        body = post("/predict", TASKS, "X-Forwarded-For: 9.9.9.9, 203.0.113.7, 127.0.1.9", sent=3)
        for _ in range(3):
            stack.enter_context(server.open(body, "127.0.1.1"))
        assert asked("127.0.1.1", "203.0.113.7") == 429
        assert asked("127.0.1.1", "203.0.113.7, 203.0.113.8") == 200
        assert asked("127.0.1.1", "127.0.0.1") == 200
        # Somebody who is no proxy cannot speak for others.
        assert asked("127.0.0.2", "203.0.113.8") == 429
        stack.close()
        wait_until(lambda: asked("127.0.0.2") == 200)


def test_without_the_password_no_body_is_read(tmp_path: Path) -> None:
    password = {"EACPS_BASIC_AUTH_USER": "ls", "EACPS_BASIC_AUTH_PASS": "secret"}
    with serving(tmp_path, **password) as server:
        assert server.asked(SLOW["body"])[0] == 401
        assert server.asked(SLOW["chunks"])[0] == 401
        answered = requests.post(
            f"{server.url}/predict", data=TASKS, auth=("ls", "secret"), timeout=PATIENCE
        )
        assert answered.status_code == 200


def test_a_slow_client_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        slow = [server.open(data) for data in SLOW.values() if len(data) < 1_000]
        server.stop()
        assert server.process.returncode == 0, server.log()
    for made in slow:
        made.close()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_it_can_be_bound_to_an_ipv6_address(tmp_path: Path, host: str) -> None:
    with contextlib.closing(Server(tmp_path, host, EACPS_HOST=host)) as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert requests.get(f"{server.url}/status.json", timeout=PATIENCE).ok
        settings = Settings(_env_file=None, host=host, port=server.port)
        with pytest.raises(SettingsError, match=re.escape(f"cannot use [::1]:{server.port}")):
            require_free_port(settings)
        require_password(settings)


def test_half_a_password_stops_the_web_process_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        web_server(Settings(_env_file=None, port=free_port())).command,
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "EACPS_DATA_DIR": str(tmp_path), "EACPS_BASIC_AUTH_USER": "ls",
        },
    )  # fmt: skip
    assert done.returncode
    assert "EACPS_BASIC_AUTH_PASS is empty" in done.stderr
