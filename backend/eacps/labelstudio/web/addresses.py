"""IP addresses of hosts and clients."""

from __future__ import annotations

import ipaddress
import socket

_IPV6_PREFIX = 64
"""One machine usually owns that many bits of an IPv6 network."""


def addresses_of(host: str) -> set[str]:
    """All IP addresses of a host; none if it is unknown."""
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


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
