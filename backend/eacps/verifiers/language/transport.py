"""One HTTP request to a server that judges: with a deadline, and an answer of limited size."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests
from requests.models import PreparedRequest
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

CONNECT_SECONDS: Final = 10.0
MAX_BYTES: Final = 8_000_000
CHUNK: Final = 16_384
LONGEST_RETRY_AFTER: Final = 3600.0


class UnreachableError(Exception):
    """The server could not be reached, or did not answer in time."""


@dataclass(frozen=True)
class Response:
    """A server's answer; `content` is None where it is no JSON."""

    status: int
    content: Any
    retry_after: float = 0.0


def post(url: str, headers: Mapping[str, str], body: Mapping[str, Any], seconds: float) -> Response:
    """Send JSON and read the answer within this time; raises UnreachableError."""
    started = time.monotonic()
    deadline = started + seconds
    try:
        with requests.post(
            url,
            data=json.dumps(body).encode(),
            headers={**headers, "Content-Type": "application/json", "Accept": "application/json"},
            timeout=(min(CONNECT_SECONDS, seconds), seconds),
            # Elsewhere the key must not go; and a .netrc must not replace it.
            allow_redirects=False,
            auth=_unchanged,
            stream=True,
        ) as response:
            content = _read(response, deadline)
            waiting = retry_after(response.headers.get("Retry-After", ""))
            return Response(response.status_code, _parsed(content), waiting)
    except requests.Timeout:
        raise UnreachableError(f"no answer within {seconds:g} s") from None
    except TimeoutError:
        raise UnreachableError(f"no answer within {seconds:g} s") from None
    except (requests.RequestException, HTTPError, OSError) as error:
        # Without its text, which has the address and may have more.
        raise UnreachableError(_words(error)) from None


def retry_after(header: str) -> float:
    """The seconds in a Retry-After header, which may be a date; 0 if it says nothing."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, TypeError):
            return 0.0
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(LONGEST_RETRY_AFTER, seconds) if seconds > 0 else 0.0


def _unchanged(request: PreparedRequest) -> PreparedRequest:
    return request


def _read(response: requests.Response, deadline: float) -> bytes:
    found = bytearray()
    # Not `iter_content`, which waits until a whole chunk has come, however slowly.
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        found += chunk
        if len(found) > MAX_BYTES:
            raise UnreachableError(f"an answer of more than {MAX_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise UnreachableError("the answer came too slowly")
    return bytes(found)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _words(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, ReadTimeoutError):
        return "the answer came too slowly"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | ProtocolError):
        return "it broke the connection off"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
        return "its address is wrong"
    return f"the request failed ({type(error).__name__})"
