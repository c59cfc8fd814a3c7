"""Logging as text or JSON, with the ids of the work in every line and with secrets masked."""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

ID_NAMES: Final = ("request", "project", "task", "job", "key", "batch", "candidate", "artifact")
"""The ids of a log line, from the request of Label Studio to the stored image."""
_IN_TEXT: Final = ("request", "key")
_LONGEST_ID: Final = 200
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids", default=MappingProxyType({}))
_SECRET = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:token|bearer|basic)\s+"
    r"|(?:api[_-]?key|token|password|secret)['\"]?\s*[:=]\s*['\"]?"
    r"|sig=)[^\s'\"&@]+"
    # In a URL only what an @ follows is a password; it may be a port.
    r"|(://[^/\s:@]*:)[^\s'\"]+(?=@)"
)
_CAPABILITY = re.compile(r"[0-9]+\.[0-9]+\.[0-9]{13,}\.[A-Za-z0-9_-]{20,}")
"""What opens a task's panel; it stands in addresses."""


@contextmanager
def ids(**new: object) -> Iterator[None]:
    """Add these ids to all log lines inside the block, in this thread; empty ones are left out."""
    assert new.keys() <= set(ID_NAMES)
    given = {
        name: str(value)[:_LONGEST_ID] for name, value in new.items() if value not in (None, "")
    }
    token = _ids.set({**_ids.get(), **given})
    try:
        yield
    finally:
        _ids.reset(token)


def new_request() -> str:
    """An id for a request that brings none."""
    return uuid.uuid4().hex


def current_ids() -> Mapping[str, str]:
    """The ids that log lines of this thread have now."""
    return _ids.get()


def masked(text: str) -> str:
    """The text without tokens, passwords and signatures."""
    text = _CAPABILITY.sub("***", text)
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", text)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        known = _ids.get()
        record.ids = " ".join(known[name] for name in _IN_TEXT if name in known) or "-"
        return masked(super().format(record))


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        known = _ids.get()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": masked(record.getMessage()),
            **{name: known[name] for name in ID_NAMES if name in known},
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def configure(level: str = "INFO", form: str = "text", process: str = "eacps") -> None:
    """Send the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(_JsonFormatter(process))
    else:
        handler.setFormatter(
            _TextFormatter(f"%(asctime)s %(levelname)-7s {process} [%(ids)s] %(message)s")
        )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "urllib3", "alembic", "PIL", "opentelemetry"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
