"""Logging as text or JSON, with the task's key in every line and with secrets masked."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_task_key: ContextVar[str] = ContextVar("task_key", default="-")
_SECRET = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:token|bearer|basic)\s+"
    r"|(?:api[_-]?key|token|password|secret)['\"]?\s*[:=]\s*['\"]?"
    r"|sig=|://[^/\s:@]*:)([^\s'\"&@]+)"
)


@contextmanager
def task_key(key: str) -> Iterator[None]:
    """Add this task's key to all log lines inside the block."""
    token = _task_key.set(key)
    try:
        yield
    finally:
        _task_key.reset(token)


def masked(text: str) -> str:
    """The text without tokens, passwords and signatures."""
    return _SECRET.sub(r"\1***", text)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.task = _task_key.get()
        return masked(super().format(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "task": _task_key.get(),
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def configure(level: str = "INFO", form: str = "text", process: str = "eacps") -> None:
    """Send the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(
            _TextFormatter(f"%(asctime)s %(levelname)-7s {process} [%(task)s] %(message)s")
        )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "urllib3", "alembic", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
