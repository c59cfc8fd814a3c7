"""How many connections each client may have, and which clients are never limited."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from eacps.labelstudio.web.addresses import addresses_of, client_of, unmapped
from eacps.settings import Settings

RESOLVE_AGAIN_SECONDS = 60.0
Resolve = Callable[[str], Collection[str]]


class ConnectionLimits:
    """Counts the connections of each client. Label Studio and trusted proxies are not limited."""

    def __init__(self, settings: Settings, resolve: Resolve = addresses_of) -> None:
        self._limit = settings.connections_per_client
        self._proxies = [ipaddress.ip_network(each) for each in settings.trusted_proxies]
        self._host = urlsplit(settings.label_studio_url).hostname or ""
        self._resolve = resolve
        self._label_studio: frozenset[str] = frozenset()
        self._counts: Counter[str] = Counter()

    def watch_label_studio(self) -> None:
        """Resolve Label Studio's host from time to time, in the background."""
        if self._host:
            threading.Thread(target=self._watch, daemon=True).start()

    def resolve_label_studio(self) -> None:
        """Resolve Label Studio's host once; an unknown host keeps its last addresses."""
        found = frozenset(map(client_of, self._resolve(self._host))) if self._host else frozenset()
        self._label_studio = found or self._label_studio

    def _watch(self) -> None:
        while True:
            self.resolve_label_studio()
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
        return not address or client_of(address) in self._label_studio or self.is_proxy(address)

    def forwarded_client(self, forwarded: str) -> str:
        """The client for whom a trusted proxy asks: the last untrusted address, or nothing."""
        for address in reversed([part.strip() for part in forwarded.split(",")]):
            if address and not self.is_proxy(address):
                return address[:64]
        return ""

    def acquire(self, address: str) -> bool:
        """Count a connection; False if the client has too many already."""
        client = client_of(address)
        if self._limit and self._counts[client] >= self._limit and not self.is_unlimited(address):
            return False
        self._counts[client] += 1
        return True

    def release(self, address: str) -> None:
        """Count no longer a connection that is closed."""
        client = client_of(address)
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]
