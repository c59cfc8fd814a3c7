"""A circuit breaker: a server that keeps failing is left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
"""So many failures in a row open it."""
FIRST_SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 600.0


class Breaker:
    """Closed while the server answers; open after several failures in a row, for longer each time.
    When the time is over one request tries again, and its outcome decides."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._pause = FIRST_SECONDS
        self._reason = ""
        self._passes = True

    @property
    def passes(self) -> bool:
        """Whether what the server failed of may pass without anybody changing a setting."""
        return self._passes

    def refusal(self) -> str:
        """Why no request may be sent now; empty if one may."""
        with self._lock:
            left = self._until - self._clock()
            if left > 0:
                return f"{self._reason}; it is asked again in {left:.0f} s"
            if self._until:
                # Only this request tries; the others wait for what comes of it.
                self._until = self._clock() + self._pause
            return ""

    def succeeded(self) -> None:
        """The server answered."""
        with self._lock:
            self._failures, self._until, self._pause = 0, 0.0, FIRST_SECONDS

    def failed(
        self, reason: str, *, at_once: bool = False, seconds: float = 0.0, passes: bool = True
    ) -> None:
        """The server failed. `at_once`: waiting for more failures would tell nothing; `seconds`:
        how long it asked to be left alone."""
        with self._lock:
            self._passes = passes
            self._failures += 1
            self._reason = reason
            if self._until or at_once or self._failures >= FAILURES:
                again = self._until > 0
                self._pause = min(LONGEST_SECONDS, self._pause * 2) if again else self._pause
                self._until = self._clock() + max(self._pause, seconds)
