"""Who calls, how many connections each client may have, and who is never limited."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from eacps.settings import Settings

log = logging.getLogger(__name__)

RESOLVE_AGAIN_SECONDS = 60.0
_IPV6_PREFIX = 64
"""One machine usually owns that many bits of an IPv6 network."""
Resolve = Callable[[str], Collection[str]]


def addresses_of(host: str) -> set[str]:
    """All IP addresses of a host; none if it is unknown."""
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


class Guests:
    """Counts the connections of each client. Label Studio and trusted proxies are not limited."""

    def __init__(self, settings: Settings, resolve: Resolve = addresses_of) -> None:
        self._limit = settings.connections_per_client
        self._proxies = [ipaddress.ip_network(each) for each in settings.trusted_proxies]
        self._host = urlsplit(settings.label_studio_url).hostname or ""
        self._resolve = resolve
        self._own: frozenset[str] = frozenset()
        self._counts: Counter[str] = Counter()

    def watch_label_studio(self) -> None:
        """Resolve Label Studio's host from time to time, in the background."""
        if self._host:
            threading.Thread(target=self._watch, daemon=True).start()

    def look_up(self) -> None:
        """Resolve Label Studio's host once; an unknown host keeps its last addresses."""
        found = frozenset(map(client_of, self._resolve(self._host))) if self._host else frozenset()
        self._own = found or self._own

    def _watch(self) -> None:
        while True:
            self.look_up()
            time.sleep(RESOLVE_AGAIN_SECONDS)

    def is_proxy(self, address: str) -> bool:
        """Whether this is a trusted proxy, which says for whom it asks."""
        try:
            given = unmapped(address)
        except ValueError:
            return False
        return any(given in network for network in self._proxies)

    def is_unlimited(self, address: str) -> bool:
        """Whether this is Label Studio, a trusted proxy, or a local socket without an address."""
        return not address or client_of(address) in self._own or self.is_proxy(address)

    def behind(self, forwarded: str) -> str:
        """The client for whom a trusted proxy asks: the last untrusted address, or nothing."""
        for address in reversed([part.strip() for part in forwarded.split(",")]):
            if address and not self.is_proxy(address):
                return address[:64]
        return ""

    def enter(self, address: str) -> bool:
        """Count a connection; False if the client has too many already."""
        client = client_of(address)
        if self._limit and self._counts[client] >= self._limit and not self.is_unlimited(address):
            return False
        self._counts[client] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that entered is closed."""
        client = client_of(address)
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


def unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an IP address, an IPv4 address within IPv6 as IPv4; raises ValueError."""
    parsed = ipaddress.ip_address(address.split("%", 1)[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def client_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network."""
    try:
        parsed = unmapped(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback:
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
