"""Work that lost its thread is requeued; a batch that waits for a disk is not taken for hung."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

import pytest
import sqlalchemy as sa

from eacps.artifacts import StoreAwayError
from eacps.domain import Failure
from eacps.errors import TaskError
from eacps.jobs import worker
from eacps.jobs.beats import StrayWork
from eacps.jobs.orchestrator import failure_of
from eacps.jobs.outages import outages
from eacps.jobs.worker import Watchdog


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def requeued() -> list[str]:
    return []


def stray_work(running: Collection[str], requeued: list[str], clock: Clock) -> StrayWork:
    return StrayWork(lambda: running, requeued.extend, after_seconds=30, clock=clock)


def test_what_has_no_thread_for_long_is_requeued(requeued: list[str], clock: Clock) -> None:
    stray = stray_work(["alive"], requeued, clock)
    for clock.now in (0, 10, 30):
        stray.check(["alive", "lost"])
    assert requeued == []
    clock.now = 31
    stray.check(["alive", "lost"])
    assert requeued == ["lost"]


def test_what_ran_meanwhile_is_not_stray(requeued: list[str], clock: Clock) -> None:
    running = {"a"}
    stray = stray_work(running, requeued, clock)
    for clock.now in range(0, 200, 20):
        # It waits for a thread, runs, waits again: never idle for long.
        running ^= {"a"}
        stray.check(["a"])
    assert requeued == []


def test_what_ended_is_forgotten(requeued: list[str], clock: Clock) -> None:
    stray = stray_work([], requeued, clock)
    stray.check(["a"])
    clock.now = 20
    stray.check([])
    clock.now = 40
    stray.check(["a"])
    assert requeued == []


def end(watchdog: Watchdog) -> None:
    """Until its thread has ended, it could end the tests' own process."""
    watchdog.cancel()
    watchdog._thread.join(60)
    assert not watchdog._thread.is_alive()


def test_a_hung_batch_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(worker, "_exit_hung", lambda key: ended.set())
    watchdog = Watchdog(0.05, "key")
    assert ended.wait(60)
    end(watchdog)


def test_a_batch_that_waits_for_an_outage_to_end_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    ended = threading.Event()
    enough = threading.Event()

    def seconds_since() -> float:
        asked.append(0.0)
        if len(asked) == 5:
            enough.set()
        return 0.0

    monkeypatch.setattr(worker, "_exit_hung", lambda key: ended.set())
    monkeypatch.setattr(outages, "seconds_since", seconds_since)
    watchdog = Watchdog(0.01, "key")
    assert enough.wait(60)
    end(watchdog)
    assert not ended.is_set()


def test_an_outage_is_no_failure_and_a_failure_names_no_host_and_no_sql() -> None:
    away = StoreAwayError("The artifact store cannot be used: Connection refused.")
    with pytest.raises(StoreAwayError):
        failure_of(away)
    broken = sa.exc.ProgrammingError("SELECT secret", {}, Exception("at 10.0.0.7"))
    told = failure_of(broken)
    assert told.code == "internal_error"
    assert "ProgrammingError" in told.message
    assert not any(text in told.message for text in ("SELECT", "secret", "10.0.0.7"))
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError) as caught:
        nothing["there"]
    # Enough to find the mistake in one's own plug-in.
    assert f"({Path(__file__).name}, line " in failure_of(caught.value).message
    assert failure_of(TaskError("No image.", hint="Add one.")) == Failure(
        "bad_task", "No image. Add one."
    )
