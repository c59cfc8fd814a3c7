"""Hostile HTTP requests and JSON bodies. None may crash the server, hang, or give a 5xx."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

END = b"\r\n\r\n"
PATHS = ("/", "/health", "/predict", "/setup", "/webhook", "/status", "/status.json", "/train")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT")
HEADERS = (
    "SCRIPT_NAME: /x",
    "PATH_INFO: /x",
    "Content-Length: -1",
    "Content-Length: 1e3",
    "Content-Length: 99999999999999999999999",
    "Content-Length: 3\r\nContent-Length: 4",
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \xffchunked",
    "Expect: 100-continue",
    "Expect: something",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Authorization: Basic",
    "Authorization: Basic \xff\xfe",
    "Authorization: Bearer " + "a" * 5000,
    "X-Forwarded-For: 127.0.0.1, 127.0.0.1",
    "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher",
    "Host: evil.example",
    "If-None-Match: " + '"a",' * 500,
    "Range: bytes=" + "0-," * 900,
    "Content-Type: multipart/form-data",
    "Content-Type: application/json; charset=utf-99",
    "Content-Encoding: gzip",
    "Cookie: " + "a=b; " * 1000,
    "A" * 9000 + ": b",
    "a: " + "b" * 9000,
    "a b: c",
    ": c",
    "no colon",
    " folded",
    "a: b\x00c",
    "a: b\nc: d",
    "\r\n".join(f"X-{number}: y" for number in range(500)),
)
TARGETS = (
    "*",
    "//evil.example/health",
    "http://evil.example/health",
    "/%",
    "/%00",
    "/%ff%fe",
    "/../../etc/passwd",
    "/artifacts/x/..%2f..%2furl-secret",
    "/artifacts/%00/%00",
    "/artifacts/" + "a" * 3000 + "/b.png",
    "/static/../../../etc/passwd",
    "/static/%2e%2e/app.py",
    "/health;x=y?" + "a=b&" * 900,
    "/health#x",
    "/" + "a" * 5000,
    "/predict/" * 400,
    "/health?\xff",
    "evil.example:443",
)
BODIES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 200_000,
    b'{"tasks":' * 50_000,
    b'{"tasks":[' + b"0," * 200_000 + b"0]}",
    b'{"tasks":[' + b"{}," * 50_000 + b"0]}",
    b'{"a":' + b"9" * 100_000 + b"}",
    b'{"tasks":[{"id":NaN,"data":{"image":Infinity}}]}',
    b'{"tasks":[{"data":{"image":"\\ud800"}}]}',
    b'{"tasks":[{"data":{"image":"\\u0000","prompt":"\\u0000"}}]}',
    b'{"tasks":1e999,"project":{"a":[]},"label_config":[],"params":"x","context":7}',
    b'{"action":{"TASKS_CREATED":1},"tasks":{}}',
    b"{" + b",".join(b'"k%d":0' % number for number in range(50_000)) + b"}",
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 2**63, 10**30, 1e300, "", "x" * 5000, "\0", "\ud800", "../../etc/passwd"),
    *("1", "१२", "1e9", [], [[]], [None] * 50, {}, {"id": {}}, {"data": []}, "data:,x", "file:///etc"),
    *("<View><Choices", "<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>", "{{7*7}}", "' OR 1=1"),
)  # fmt: skip


def hostile_requests() -> Iterator[tuple[str, bytes]]:
    """Names and the bytes to send; some are never complete."""
    for method in METHODS:
        for path in PATHS:
            yield f"{method} {path}", _request(method, path, "Content-Length: 2") + b"{}"
    for header in HEADERS:
        for method in ("GET", "POST"):
            yield f"{method} {header[:40]!r}", _request(method, "/predict", header) + b"{}" + END
    for target in TARGETS:
        yield f"target {target[:40]!r}", _request("GET", target)
    for body in BODIES:
        for path in ("/predict", "/webhook", "/setup"):
            length = f"Content-Length: {len(body)}"
            yield f"{path} {body[:30]!r}", _request("POST", path, length) + body
    yield "nothing", b""
    yield "empty lines", b"\r\n" * 100
    yield "zeros", bytes(1000) + END
    yield "another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    yield "http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "http 0.9", b"GET /\r\n\r\n"
    yield "http 9", b"GET / HTTP/9.9\r\n\r\n"
    yield "line feeds only", b"GET /health HTTP/1.1\nHost: x\n\n"
    yield "half a request", b"POST /predict HTTP/1.1\r\nContent-Le"
    chunks = (b"zz\r\n", b"-5\r\nx", b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello",
              b"ffffffffffffffff\r\n", b"5;" + b"a" * 9000, b"0\r\nContent-Length: 9\r\n\r\n",
              b"1\r\n{\r\n" * 5000 + b"0\r\n\r\n", b"5\nhello\n0\n\n")  # fmt: skip
    for chunk in chunks:
        head = _request("POST", "/predict", "Transfer-Encoding: chunked")
        yield f"chunk {chunk[:20]!r}", head + chunk


def _request(method: str, target: str, *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers]
    return "\r\n".join(lines).encode("latin-1") + END


def hostile_bodies(recorded: list[Any], count: int, seed: int) -> Iterator[Any]:
    """Recorded requests of Label Studio in which some values are replaced."""
    chance = random.Random(seed)
    for _ in range(count):
        body = json.loads(json.dumps(chance.choice(recorded)))
        for _ in range(chance.randint(1, 4)):
            _spoil(body, chance)
        yield body


def _spoil(value: Any, chance: random.Random) -> None:
    while isinstance(value, dict | list) and value:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.4 or not isinstance(value[key], dict | list):
            # Copied, because it may be spoiled in turn.
            value[key] = copy.deepcopy(chance.choice(VALUES))
            return
        value = value[key]
