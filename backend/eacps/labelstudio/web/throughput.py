"""How many jobs ended within the last hour and day, as the bars of two small charts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue, JobState

BAR_WIDTH = 12
HEIGHT = 40
SPANS = (("hour", 300, 12), ("day", 3600, 24))
"""The name of a chart, the seconds of a bar, and how many bars it has."""


@dataclass(frozen=True)
class Bar:
    """A bar: how many jobs were done and failed since a moment, and the heights of both."""

    since: int
    done: int
    failed: int
    done_height: float
    failed_height: float


def throughput(jobs: JobQueue) -> list[dict[str, Any]]:
    """The charts. Bars begin at whole minutes and hours, so that only ended jobs change them."""
    now = time.time()
    found = []
    for name, seconds, count in SPANS:
        # The bar that has just begun, and those before.
        first = (int(now) // seconds - count + 1) * seconds
        ended = jobs.ended_by_time(first, seconds)
        bars = _bars(ended, first, seconds, count)
        found.append(
            {
                "span": name,
                "seconds": seconds,
                "done": sum(bar.done for bar in bars),
                "failed": sum(bar.failed for bar in bars),
                "bars": [vars(bar) for bar in bars],
            }
        )
    return found


def _bars(
    ended: Mapping[tuple[JobState, int], int], first: int, seconds: int, count: int
) -> Sequence[Bar]:
    numbers = [(ended.get(("done", n), 0), ended.get(("failed", n), 0)) for n in range(count)]
    # Clocks of other machines may be ahead.
    numbers[-1] = (
        sum(number for (state, n), number in ended.items() if state == "done" and n >= count - 1),
        sum(number for (state, n), number in ended.items() if state == "failed" and n >= count - 1),
    )
    most = max(1, *(done + failed for done, failed in numbers))
    return [
        Bar(
            first + n * seconds,
            done,
            failed,
            round(HEIGHT * done / most, 1),
            round(HEIGHT * failed / most, 1),
        )
        for n, (done, failed) in enumerate(numbers)
    ]
