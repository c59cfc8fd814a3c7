"""How long a test waits before it says that something hangs. No claim about speed: the machine may
be busy with other work, and a test that passes never waits longer than it must.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

PATIENCE = float(os.environ.get("EACPS_TEST_PATIENCE_SECONDS", "600"))


def wait_until(
    condition: Callable[[], Any],
    explain: Callable[[], str] = str,
    *,
    forgiven: tuple[type[Exception], ...] = (),
) -> None:
    """Return when the condition holds; fail with the end of a log when it never does."""
    deadline = time.monotonic() + PATIENCE
    problem: object = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except forgiven as error:
            problem = error
        time.sleep(0.05)
    raise AssertionError(f"not reached in {PATIENCE:.0f} s ({problem})\n{explain()[-6000:]}")
