"""HTTP GET for untrusted URLs, connecting to exactly the IP address that was checked."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import certifi

from eacps.errors import FetchError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    map(
        ipaddress.IPv6Network,
        # Local NAT64, IPv4-compatible addresses, and the old site-local ones: Python calls some of
        # them global.
        ("64:ff9b:1::/48", "::/96", "fec0::/10"),
    )
)
_CHUNK = 65_536
_DEFAULT_PORTS = {"http": 80, "https": 443}
Resolve = Callable[[str, int], list[str]]


@dataclass(frozen=True)
class Address:
    """A parsed and normalised http(s) URL."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port, which identify a server."""
        return (self.scheme, self.host, self.port)


@dataclass(frozen=True)
class Reply:
    """A server's response: `location` for a redirect, otherwise `content`."""

    status: int
    location: str = ""
    content: bytes = b""


class TooLargeError(FetchError):
    """The server sent more bytes than allowed."""


class NoAnswerError(FetchError):
    """The server could not be reached or timed out."""


def parse_address(url: str) -> Address:
    """Parse an http(s) URL strictly; raises FetchError."""
    try:
        parts = urlsplit(url)
        return _address(url, parts)
    except (ValueError, UnicodeError):
        raise FetchError(
            "The image's address is not a valid URL.", hint="Correct the URL in the task."
        ) from None


def joined(url: str, location: str) -> str:
    """The target of a redirect; raises FetchError."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise FetchError(
            "The image's address redirects to something that is not a URL.",
            hint="Use its final URL.",
        ) from None


def _address(url: str, parts: SplitResult) -> Address:
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not http")
    if parts.username is not None or any(ord(letter) < 33 for letter in parts.netloc):
        raise ValueError("credentials or control characters")
    if "\\" in url:
        raise ValueError("a backslash")
    host = parts.hostname.rstrip(".").lower()
    if not host.isascii():
        host = host.encode("idna").decode()
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    return Address(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme], path + query)


def resolve(host: str, port: int) -> list[str]:
    """All IP addresses of a host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NoAnswerError(f"Unknown host {host}.", hint="Check the URL in the task.") from None
    return [str(entry[4][0]) for entry in found]


def is_public(ip: str) -> bool:
    """Whether an IP address is public, including addresses embedded in IPv6."""
    try:
        address = ipaddress.ip_address(ip.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        inner = address.ipv4_mapped or address.sixtofour
        if inner or address.teredo:
            return inner is not None and is_public(str(inner))
        if any(address in network for network in _NOT_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def get(
    address: Address,
    ip: str,
    headers: Mapping[str, str],
    *,
    max_bytes: int,
    deadline: float,
) -> Reply:
    """GET from exactly this IP address, enforcing limits on size and time while reading."""
    connection = _open(address, ip, deadline)
    try:
        with _cut_off_at(deadline, connection):
            connection.request("GET", address.target, headers=dict(headers))
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                return Reply(response.status, location=response.getheader("Location") or "")
            if response.status != 200:
                return Reply(response.status)
            content = b"".join(_limited(response, max_bytes))
            if response.length or time.monotonic() >= deadline:
                raise http.client.IncompleteRead(b"")
            return Reply(response.status, content=content)
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        raise _no_answer(address, error, deadline) from None
    finally:
        connection.close()


def _open(address: Address, ip: str, deadline: float) -> _Pinned:
    kind = _PinnedTls if address.scheme == "https" else _Pinned
    return kind(address, ip, _remaining(deadline))


class _Pinned(http.client.HTTPConnection):
    """Connects to the checked IP address, even if the name now resolves to another one."""

    def __init__(self, address: Address, ip: str, timeout: float) -> None:
        super().__init__(address.host, address.port, timeout=timeout)
        self._ip = ip
        self._opened: socket.socket | None = None

    def connect(self) -> None:
        self._opened = self.sock = socket.create_connection((self._ip, self.port), self.timeout)

    def cut(self) -> None:
        """Abort pending reads and writes. `sock` is None while a body is read."""
        if self._opened is not None:
            try:
                self._opened.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class _PinnedTls(_Pinned):
    default_port = 443

    def connect(self) -> None:
        super().connect()
        self._opened = self.sock = _tls().wrap_socket(self.sock, server_hostname=self.host)


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@contextmanager
def _cut_off_at(deadline: float, connection: _Pinned) -> Iterator[None]:
    # A socket's timeout restarts with every byte, so a slow server requires a real deadline.
    timer = threading.Timer(_remaining(deadline), connection.cut)
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        yield
    finally:
        timer.cancel()


def _limited(response: http.client.HTTPResponse, max_bytes: int) -> Iterator[bytes]:
    read = 0
    while chunk := response.read1(_CHUNK):
        read += len(chunk)
        if read > max_bytes:
            raise TooLargeError(
                f"The image file has more than {max_bytes:,} bytes.",
                hint="Use a smaller file, or ask the administrator to raise EACPS_MAX_IMAGE_BYTES.",
                code="image_too_large",
            )
        yield chunk


def _remaining(deadline: float) -> float:
    return max(0.05, deadline - time.monotonic())


def _no_answer(address: Address, error: Exception, deadline: float) -> NoAnswerError:
    if time.monotonic() >= deadline - 0.01 or isinstance(error, TimeoutError):
        return NoAnswerError(
            f"The host {address.host} took too long to send the image.",
            hint="Try again, or raise EACPS_FETCH_TIMEOUT_SECONDS.",
            code="fetch_timeout",
        )
    return NoAnswerError(
        f"The image could not be fetched from {address.host} ({type(error).__name__}).",
        hint="Check the URL in the task.",
    )
