"""What is found out once about a task, before its candidates are judged, and kept for all workers.

All candidates of a task must be asked the same, whichever worker judges them, also after a crash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Kept(Protocol):
    """Keeps JSON content by key, for all that work on the same tasks."""

    def recall(self, key: str) -> Any:
        """What is kept under this key, or None."""

    def keep_first(self, key: str, content: Any) -> Any:
        """Keep content under a key unless something is kept there; return what is kept."""


@dataclass
class KeptInMemory:
    """What one process keeps for itself."""

    _content: dict[str, Any] = field(default_factory=dict)

    def recall(self, key: str) -> Any:
        """What is kept under this key, or None."""
        return self._content.get(key)

    def keep_first(self, key: str, content: Any) -> Any:
        """Keep content under a key unless something is kept there; return what is kept."""
        return self._content.setdefault(key, content)


@dataclass(frozen=True)
class Prepared:
    """What judges prepared for a task: in sentences for people, what the wished-for picture shows
    (or why nobody said so)."""

    told: tuple[str, ...] = ()
    caption: str = ""
    problem: str = ""


class OncePerKey(Generic[T]):
    """Makes a value once for each key, also if several threads ask for it at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[str, T] = {}
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get_or_make(self, key: str, make: Callable[[], T]) -> T:
        """The value of this key. If making it fails, the next one who asks tries again."""
        with self._lock:
            if key in self._values:
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            value = make()
            with self._lock:
                self._values[key] = value
                self._making.pop(key, None)
                while len(self._values) > self._limit:
                    del self._values[next(iter(self._values))]
            return value
