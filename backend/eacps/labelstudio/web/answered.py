"""Answers to questions that may take long or hang, such as whether a server can be reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class NoAnswerError(Exception):
    """The question was not answered in time."""


@dataclass
class _Asked(Generic[T]):
    """One time that the question was asked."""

    since: float
    done: threading.Event
    value: T | None = None
    error: Exception | None = None
    ended: float = 0.0

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class Answered(Generic[T]):
    """Asks in the background, never twice at once, and keeps the answer for a while."""

    def __init__(
        self, ask: Callable[[], T], *, keep_seconds: float = 5.0, wait_seconds: float = 3.0
    ) -> None:
        self._ask = ask
        self._keep_seconds = keep_seconds
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._newest: _Asked[T] | None = None

    def begin(self) -> None:
        """Ask, unless there is a recent answer or one is awaited."""
        self._current()

    def answer(self) -> T:
        """The answer, which is at most as old as it is kept; raises what the question raised, or
        NoAnswerError."""
        asked = self._current()
        left = self._wait_seconds - (time.monotonic() - asked.since)
        if not asked.done.wait(max(0.0, left)):
            raise NoAnswerError
        return asked.result()

    def _current(self) -> _Asked[T]:
        with self._lock:
            newest = self._newest
            if newest is None or (newest.done.is_set() and self._is_old(newest)):
                newest = self._newest = _Asked(time.monotonic(), threading.Event())
                threading.Thread(target=self._run, args=(newest,), daemon=True).start()
            return newest

    def _is_old(self, asked: _Asked[T]) -> bool:
        return time.monotonic() - asked.ended > self._keep_seconds

    def _run(self, asked: _Asked[T]) -> None:
        try:
            asked.value = self._ask()
        except Exception as error:
            asked.error = error
        asked.ended = time.monotonic()
        asked.done.set()
