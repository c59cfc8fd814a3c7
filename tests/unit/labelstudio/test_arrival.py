"""Requests in pieces, and who is limited."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eacps.labelstudio.web.arrival import Arrival, RefusedError
from eacps.labelstudio.web.guests import Guests
from eacps.settings import Settings

PLAIN = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3;a=b\r\nhel\r\n02\r\nlo\r\n0\r\nA: b\r\n\r\n"
)
EMPTY = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"


@given(st.sampled_from([PLAIN, CHUNKED, EMPTY]), st.lists(st.integers(1, 90), max_size=20))
def test_the_end_is_found_wherever_the_pieces_are_cut(whole: bytes, cuts: list[int]) -> None:
    arrival = Arrival(1000)
    sent = whole + b"GET /next"
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in pairwise(places):
        assert arrival.done == (start >= len(whole))
        arrival.feed(sent[start:end])
    assert arrival.done
    assert arrival.rest == b"GET /next"
    arrival.content.seek(0)
    assert arrival.content.read() == whole


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_break_it(noise: bytes, chunked: bool) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else b""
    arrival = Arrival(1000)
    arrival.feed(head + noise)
    arrival.feed(noise)


@pytest.mark.parametrize(
    "sent",
    [
        PLAIN.replace(b" 5", b" 1001"),
        CHUNKED[: CHUNKED.index(b"3;")] + b"400\r\n%s\r\n" % (b"x" * 1024) * 80,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused(sent: bytes) -> None:
    arrival = Arrival(1000)
    with pytest.raises(RefusedError):
        arrival.feed(sent)


def guests(**settings: object) -> Guests:
    return Guests(
        Settings(_env_file=None, **settings),  # type: ignore[arg-type]
        resolve=lambda host: {"ls.example": ["203.0.113.1", "2001:db8::1"]}.get(host, []),
    )


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    door = guests(connections_per_client=1)
    assert door.enter("2001:db8:1:2::5")
    assert not door.enter("2001:db8:1:2:ffff::6")
    assert door.enter("2001:db8:1:3::5")
    assert door.enter("::ffff:192.0.2.1")
    assert not door.enter("192.0.2.1")
    door.leave("192.0.2.1")
    assert door.enter("192.0.2.1")


def test_label_studio_is_not_limited_under_any_of_its_addresses() -> None:
    door = guests(connections_per_client=1, label_studio_url="http://ls.example:8080")
    door.look_up()
    for address in ("203.0.113.1", "2001:db8::1", "::ffff:203.0.113.1"):
        assert all(door.enter(address) for _ in range(9))
    assert [door.enter("203.0.113.2") for _ in range(2)] == [True, False]


def test_a_host_that_is_unknown_for_a_while_keeps_its_addresses() -> None:
    known = {"ls.example": ["203.0.113.1"]}
    settings = Settings(
        _env_file=None, label_studio_url="http://ls.example", connections_per_client=1
    )
    door = Guests(settings, resolve=lambda host: known.get(host, []))
    door.look_up()
    known.clear()
    door.look_up()
    assert all(door.enter("203.0.113.1") for _ in range(9))


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
    assert guests(trusted_proxies=("10.0.0.0/8",)).behind(forwarded) == client
