"""One HTTP request while it arrives in pieces: when is it complete, and is it too large?

gunicorn parses the same bytes again and answers what is malformed, so for a request that makes no
sense this module only says that nothing more needs to arrive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile

MAX_HEAD_BYTES = 65_536
MAX_CHUNK_LINE_BYTES = 8_190
IN_MEMORY_BYTES = 1_000_000
"""Larger requests and answers wait in a temporary file."""
_END = b"\r\n\r\n"
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")


class RefusedError(Exception):
    """The request is answered with this status and sentence, without reading the rest of it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Head:
    """The headers of a request, and how much body follows."""

    headers: Mapping[str, str]
    length: int
    chunked: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client sends its body only when it is told to."""
        return self.headers.get("expect", "").lower() == "100-continue"


def parse_head(raw: bytes) -> Head:
    """The head of a request. The body of a contradictory one counts as empty."""
    headers: dict[str, str] = {}
    contradictory = False
    for line in raw.split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        name = name.lower()
        contradictory |= name in headers and name in ("content-length", "transfer-encoding")
        headers[name] = value.strip(" \t")
    length = headers.get("content-length", "0")
    coding = headers.get("transfer-encoding", "").lower()
    contradictory |= bool(coding) and "content-length" in headers
    contradictory |= not (length.isascii() and length.isdecimal() and len(length) < 19)
    if contradictory:
        return Head(headers, 0, chunked=False)
    return Head(headers, int(length), chunked=coding == "chunked")


class _Counted:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self._missing = length

    @property
    def done(self) -> bool:
        return self._missing == 0

    def take(self, data: bytes) -> int:
        taken = min(self._missing, len(data))
        self._missing -= taken
        return taken


class _Chunked:
    """A body in chunks, each after a line with its size; ends with trailers and an empty line."""

    def __init__(self) -> None:
        self.done = False
        self._skip = 0
        self._line = b""
        self._in_trailers = False

    def take(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.done:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if len(self._line) > MAX_CHUNK_LINE_BYTES:
                self.done = True
            elif self._line.endswith(b"\n"):
                self._read_line()
        return at

    def _read_line(self) -> None:
        line, self._line = self._line.strip(), b""
        if self._in_trailers:
            self.done = not line
            return
        size = line.split(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size):
            self.done = True
            return
        self._skip = int(size, 16)
        self._in_trailers = self._skip == 0
        if self._skip:
            self._skip += len(b"\r\n")


class IncomingRequest:
    """A request of which more and more arrives; raises RefusedError if it is too large."""

    def __init__(self, max_bytes: int) -> None:
        self.head: Head | None = None
        self.done = False
        self.pipelined = b""
        """What was sent after this request."""
        self.size = 0
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._body: _Counted | _Chunked = _Counted(0)
        self.content = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        """The bytes of the request."""

    @property
    def started(self) -> bool:
        """Whether anything has arrived."""
        return bool(self._buffer or self.size)

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        if self.head is None:
            data = self._feed_head(data)
        if self.head is not None:
            self._feed_body(data)

    def _feed_head(self, data: bytes) -> bytes:
        # An end that arrives in two pieces begins at most three bytes before the second one. An
        # empty line before the request is allowed, and not its end.
        first = max(2, len(self._buffer) - 3)
        self._buffer += data
        end = self._buffer.find(_END, first)
        if (end if end >= 0 else len(self._buffer)) > MAX_HEAD_BYTES:
            raise RefusedError(431, "head_too_large", "The headers of the request are too large.")
        if end < 0:
            return b""
        raw = bytes(self._buffer[: end + len(_END)])
        following = bytes(self._buffer[len(raw) :])
        self._buffer.clear()
        self.head = parse_head(raw.strip(b"\r\n"))
        self._body = _Chunked() if self.head.chunked else _Counted(self.head.length)
        self._keep(raw)
        if self.head.length > self._max_bytes:
            raise self._too_large()
        return following

    def _feed_body(self, data: bytes) -> None:
        taken = self._body.take(data)
        self._keep(data[:taken])
        self.pipelined += data[taken:]
        self.done = self._body.done
        if self.size > self._max_bytes + MAX_HEAD_BYTES:
            raise self._too_large()

    def _keep(self, data: bytes) -> None:
        self.size += len(data)
        self.content.write(data)

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413,
            "request_too_large",
            f"The request has more than {self._max_bytes:,} bytes. Send fewer tasks at once, or "
            "raise EACPS_MAX_REQUEST_BYTES.",
        )
