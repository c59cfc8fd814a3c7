"""Requests in pieces, and who is limited."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eacps.labelstudio.web.connection_limits import ConnectionLimits
from eacps.labelstudio.web.incoming_request import IncomingRequest, RefusedError
from eacps.settings import Settings

PLAIN = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3;a=b\r\nhel\r\n02\r\nlo\r\n0\r\nA: b\r\n\r\n"
)
EMPTY = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"


@given(st.sampled_from([PLAIN, CHUNKED, EMPTY]), st.lists(st.integers(1, 90), max_size=20))
def test_the_end_is_found_wherever_the_pieces_are_cut(whole: bytes, cuts: list[int]) -> None:
    incoming = IncomingRequest(1000)
    sent = whole + b"GET /next"
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in pairwise(places):
        assert incoming.done == (start >= len(whole))
        incoming.feed(sent[start:end])
    assert incoming.done
    assert incoming.pipelined == b"GET /next"
    incoming.content.seek(0)
    assert incoming.content.read() == whole


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_break_it(noise: bytes, chunked: bool) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else b""
    incoming = IncomingRequest(1000)
    incoming.feed(head + noise)
    incoming.feed(noise)


@pytest.mark.parametrize(
    "sent",
    [
        PLAIN.replace(b" 5", b" 1001"),
        CHUNKED[: CHUNKED.index(b"3;")] + b"400\r\n%s\r\n" % (b"x" * 1024) * 80,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused(sent: bytes) -> None:
    incoming = IncomingRequest(1000)
    with pytest.raises(RefusedError):
        incoming.feed(sent)


def limits_of(**settings: object) -> ConnectionLimits:
    return ConnectionLimits(
        Settings(_env_file=None, **settings),  # type: ignore[arg-type]
        resolve=lambda host: {"ls.example": ["203.0.113.1", "2001:db8::1"]}.get(host, []),
    )


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    limits = limits_of(connections_per_client=1)
    assert limits.acquire("2001:db8:1:2::5")
    assert not limits.acquire("2001:db8:1:2:ffff::6")
    assert limits.acquire("2001:db8:1:3::5")
    assert limits.acquire("::ffff:192.0.2.1")
    assert not limits.acquire("192.0.2.1")
    limits.release("192.0.2.1")
    assert limits.acquire("192.0.2.1")


def test_label_studio_is_not_limited_under_any_of_its_addresses() -> None:
    limits = limits_of(connections_per_client=1, label_studio_url="http://ls.example:8080")
    limits.resolve_label_studio()
    for address in ("203.0.113.1", "2001:db8::1", "::ffff:203.0.113.1"):
        assert all(limits.acquire(address) for _ in range(9))
    assert [limits.acquire("203.0.113.2") for _ in range(2)] == [True, False]


def test_a_host_that_is_unknown_for_a_while_keeps_its_addresses() -> None:
    known = {"ls.example": ["203.0.113.1"]}
    settings = Settings(
        _env_file=None, label_studio_url="http://ls.example", connections_per_client=1
    )
    limits = ConnectionLimits(settings, resolve=lambda host: known.get(host, []))
    limits.resolve_label_studio()
    known.clear()
    limits.resolve_label_studio()
    assert all(limits.acquire("203.0.113.1") for _ in range(9))


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("", ""),
        ("10.0.0.1", ""),
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 10.0.0.1, ::ffff:10.0.0.2", "203.0.113.9"),
        ("<script>", "<script>"),
    ],
)
def test_the_client_is_the_last_untrusted_address(forwarded: str, client: str) -> None:
    assert limits_of(trusted_proxies=("10.0.0.0/8",)).forwarded_client(forwarded) == client
