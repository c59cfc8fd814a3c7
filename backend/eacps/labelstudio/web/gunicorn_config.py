"""What gunicorn's command line cannot say; `eacps serve` gives it this file."""

from __future__ import annotations

import logging
import socket
import struct
from typing import Any

STALLED_SECONDS = 10


def when_ready(server: Any) -> None:
    """Let go of clients that stop sending: each holds a thread, and there are few."""
    limit = struct.pack("@ll", STALLED_SECONDS, 0)
    for listener in server.LISTENERS:
        # The sockets of accepted connections inherit this.
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    logging.getLogger("gunicorn.error").addFilter(_worth_reading)


def _worth_reading(record: logging.LogRecord) -> bool:
    # The client that stalled; gunicorn reports it with a stack trace.
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))
