"""Gunicorn settings that have no command-line option; `eacps serve` passes this file."""

from __future__ import annotations

import logging
import socket
import struct
from typing import Any

STALLED_SECONDS = 10


def when_ready(server: Any) -> None:
    """Time out clients that stop sending, because each blocks one of few threads."""
    limit = struct.pack("@ll", STALLED_SECONDS, 0)
    for listener in server.LISTENERS:
        # Accepted connections inherit this option.
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    logging.getLogger("gunicorn.error").addFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    # Gunicorn logs a stack trace for a stalled client.
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))
