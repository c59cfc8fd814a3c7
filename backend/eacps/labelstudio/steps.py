"""Changes of a project in steps: shown before they are made, and undone if a later one fails."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from eacps.errors import EacpsError

Level = Literal["ok", "plan", "changed", "warn", "fail", "next"]


@dataclass(frozen=True)
class Line:
    """A line of the report."""

    level: Level
    text: str


@dataclass
class Report:
    """The lines so far; each is also told at once."""

    tell: Callable[[Line], None] = lambda _: None
    lines: list[Line] = field(default_factory=list)

    def add(self, level: Level, text: str) -> None:
        """Add a line."""
        line = Line(level, text)
        self.lines.append(line)
        self.tell(line)


@dataclass(frozen=True)
class Step:
    """A change. `undo` is called even if `do` failed half-way, and must bear that."""

    plan: str
    """What will be done, as a sentence; nothing is said of a step without one."""
    do: Callable[[], str]
    """Does it, and returns what was done, as a sentence."""
    undo: Callable[[], object] = lambda: None


def show(steps: Sequence[Step], report: Report) -> None:
    """Say what the steps will do."""
    for step in steps:
        if step.plan:
            report.add("plan", step.plan)


def run(steps: Sequence[Step], report: Report, *, undo: bool = True) -> None:
    """Make all changes, or none: what was done is undone if a step fails or is interrupted.

    Without `undo`, what was done stays.
    """
    begun: list[Step] = []
    try:
        for step in steps:
            begun.append(step)
            done = step.do()
            if done:
                report.add("changed", done)
    except BaseException:
        if undo:
            with _uninterrupted():
                _undo(begun, report)
        raise


def _undo(begun: Sequence[Step], report: Report) -> None:
    left = []
    for step in reversed(begun):
        try:
            step.undo()
        except EacpsError as error:
            left.append(f"{step.plan.rstrip('.')} ({error.message})")
    if left:
        report.add(
            "fail",
            "Not everything could be put back. Run `eacps disconnect` when Label Studio answers. "
            f"What may be left: {'; '.join(left)}.",
        )
        return
    said = Line("warn", "The project was put back as it was.")
    if said not in report.lines:
        report.add(said.level, said.text)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C must not end what undoes an interrupted command; every request has a time limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
