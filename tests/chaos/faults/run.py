"""One run: attack for some minutes, let everything recover, check, report."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.faults import checks
from tests.chaos.faults.attack import Attack
from tests.chaos.faults.feed import Feeder
from tests.chaos.faults.system import MARKS, System

RECOVERY_SECONDS = float(os.environ.get("EACPS_TEST_PATIENCE_SECONDS", "900"))
TICK_SECONDS = 0.05
QUIET_TASKS = 12
MOST_GROWTH_MB = 32.0
MOST_MORE_FILES = 8


@dataclass
class Plan:
    """What a run does; the same plan makes the same choices."""

    seed: int
    database: str
    minutes: float
    pause: float = 2.5
    longest: float = 60.0
    render_seconds: float = 0.2

    @property
    def command(self) -> str:
        """What repeats it."""
        return (
            f"python -m tests.chaos.faults --seed {self.seed} --database {self.database} "
            f"--minutes {self.minutes:g} --pause {self.pause:g} --longest {self.longest:g}"
        )


@dataclass
class Report:
    """What happened, and what was wrong."""

    plan: Plan
    problems: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    folder: Path = Path()

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": "faults",
            "command": self.plan.command,
            **self.numbers,
            "problems": self.problems,
        }

    def explain(self) -> str:
        """For people, after a failure."""
        shown = "\n".join(self.problems[:20])
        return (
            f"{len(self.problems)} problems (seed {self.plan.seed}); repeat it by\n"
            f"    {self.plan.command}\n{shown}\nLogs: {self.folder}"
        )


def run(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Report:
    """Carry out a plan."""
    report = Report(plan)
    system = System(plan.database, render_seconds=plan.render_seconds)
    report.folder = system.folder
    try:
        _run(plan, system, report, say)
    except BaseException:
        say(f"seed {plan.seed}; repeat it by: {plan.command}\nlogs: {system.folder}")
        system.close(keep=True)
        raise
    system.close(keep=bool(report.problems))
    return report


def _run(plan: Plan, system: System, report: Report, say: Callable[[str], None]) -> None:
    chance = random.Random(plan.seed)
    feeder = Feeder(system, random.Random(chance.random()))
    attack = Attack(system, random.Random(chance.random()), pause=plan.pause, longest=plan.longest)
    load = [os.getloadavg()[0]]
    _start(system)
    began = said = time.monotonic()
    while time.monotonic() - began < plan.minutes * 60:
        system.keep_running()
        attack.step(progress=len(system.label_studio.predictions))
        feeder.feed()
        if time.monotonic() - said > 30:
            said = time.monotonic()
            load.append(os.getloadavg()[0])
            say(_line(attack, feeder, time.monotonic() - began))
        time.sleep(TICK_SECONDS)
    attack.end()
    unfinished = len(feeder.unfinished())
    seconds = _recovered(system, feeder, say)
    if seconds is None:
        report.problems += [
            f"lost: task {fed.number} ({fed.kind}, accepted: {fed.answered}) had no true outcome "
            f"{RECOVERY_SECONDS:.0f} s after the last fault"
            for fed in feeder.unfinished()
        ]
    growth = _growth(system, feeder) if seconds is not None else {}
    _wait(lambda: not list(checks.problems_of_jobs(system)), system)
    report.problems += _problems(system, feeder, growth)
    report.events = [event.row() for event in attack.events]
    report.numbers = {
        **_numbers(plan, system, feeder, attack),
        "unfinished at the end of the attack": unfinished,
        "seconds until all had recovered": seconds and round(seconds, 1),
        "growth after the attack": growth,
        "load": checks.spread(load),
        "lost": sum(problem.startswith(("lost", "wrong")) for problem in report.problems),
        "doubled": sum(problem.startswith("doubled") for problem in report.problems),
    }


def _start(system: System) -> None:
    client = system.client()
    _wait(lambda: len(client.workers()) >= 2 * len(system.hosts), system)
    client.close()


def _wait(condition: Callable[[], object], system: System) -> bool:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < deadline:
        system.keep_running()
        if condition():
            return True
        time.sleep(0.5)
    return False


def _recovered(system: System, feeder: Feeder, say: Callable[[str], None]) -> float | None:
    """How long until every task had its outcome; None if one never had."""
    began = time.monotonic()
    say(f"attack over; {len(feeder.unfinished())} of {len(feeder.fed)} tasks are unfinished")
    if not _wait(lambda: not feeder.unfinished(), system):
        return None
    return time.monotonic() - began


def _growth(system: System, feeder: Feeder) -> dict[str, dict[str, float]]:
    """Memory and open files of every process after some quiet work, and after three times more."""
    _work(system, feeder, QUIET_TASKS)
    before = dict(_sizes(system))
    _work(system, feeder, 3 * QUIET_TASKS)
    after = dict(_sizes(system))
    return {
        name: {
            "MB": round(after[name][0] - before[name][0], 1),
            "files": after[name][1] - before[name][1],
        }
        for name in before.keys() & after.keys()
    }


def _work(system: System, feeder: Feeder, count: int) -> None:
    for _ in range(count):
        feeder.announce("ordinary")
    _wait(lambda: not feeder.unfinished(), system)


def _sizes(system: System) -> Iterator[tuple[str, tuple[float, int]]]:
    for host in system.hosts:
        for role in ("supervisor", *MARKS):
            for process in host.processes(role):
                try:
                    name = f"{role} of the {host.name} host, process {process.pid}"
                    yield name, (process.memory_info().rss / 1e6, process.num_fds())
                except psutil.Error:
                    continue


def _problems(system: System, feeder: Feeder, growth: dict[str, dict[str, float]]) -> Iterator[str]:
    yield from checks.problems_of_tasks(system, feeder)
    yield from checks.problems_of_words(system)
    yield from checks.problems_of_jobs(system)
    for name, grown in growth.items():
        if grown["MB"] > MOST_GROWTH_MB or grown["files"] > MOST_MORE_FILES:
            yield f"growth: {name}: {grown}"
    for host in system.hosts:
        host.stop()
    yield from checks.problems_of_files(system)
    yield from (f"left over: process {process.pid}" for process in system.leftovers())


def _numbers(plan: Plan, system: System, feeder: Feeder, attack: Attack) -> dict[str, Any]:
    kills = [event for event in attack.events if event.kind == "kill"]
    lasting: dict[str, list[float]] = {}
    for event in attack.events:
        if event.kind != "kill":
            lasting.setdefault(f"{event.kind}: {event.what}", []).append(event.seconds)
    return {
        "seed": plan.seed,
        "database": plan.database,
        "minutes": plan.minutes,
        "hosts": len(system.hosts),
        "kills": len(kills),
        "kills by role": dict(Counter(event.what for event in kills)),
        "processes killed": sum(len(event.pids) for event in kills),
        "starts of supervisors": sum(host.starts for host in system.hosts),
        "outages": {
            name: {
                "count": len(values),
                "seconds": round(sum(values), 1),
                "longest": round(max(values), 1),
            }
            for name, values in sorted(lasting.items())
        },
        "tasks": len(feeder.fed),
        "tasks by kind": dict(Counter(fed.kind for fed in feeder.fed)),
        "announcements nobody answered": sum(not fed.answered for fed in feeder.fed),
        "renders": checks.renders(system),
        "delivered again": checks.delivered_again(system),
    }


def _line(attack: Attack, feeder: Feeder, seconds: float) -> str:
    kills = sum(event.kind == "kill" for event in attack.events)
    finished = len(feeder.fed) - len(feeder.unfinished())
    return (
        f"{seconds:.0f} s: {kills} kills, {len(attack.events) - kills} other faults, "
        f"{finished} of {len(feeder.fed)} tasks have their outcome"
    )


def written(report: Report, path: Path) -> None:
    """Append a report's row to a file of raw results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(report.row()) + "\n")
