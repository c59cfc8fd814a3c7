"""Does the device wait for the judge? `python -m benchmarks.overlap`.

Runs `eacps run` on tasks with an editor that sleeps half a second for a candidate, and a judge, a
server, that sleeps two seconds for a call and answers at most 16 at once. The wall time, from the
first render to the last report, is compared with the longer of what rendering and judging take by
themselves. `--ideal` measures nothing, but computes that ratio for searches of `waves` on a device
and with a queue that lose no time, by how many of them run at once.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from PIL import Image

from benchmarks.judge_server import serving
from eacps.demo.tasks import demo_tasks, write_tasks
from eacps.domain import EditTask, Trial
from eacps.editors.protocol import Render, States, Tick, no_tick
from eacps.images import TaskImages

ROOT: Final = Path(__file__).resolve().parents[1]
CANDIDATE_SECONDS: Final = 0.5
CALL_SECONDS: Final = 2.0
CALLS_AT_ONCE: Final = 16
STEPS: Final = 10
BATCH: Final = 4
WAVES_ROUNDS: Final = ((8, 4), (2, 2), (1, 4)) * 4
"""The rounds of a search of `waves` that ends with none too early: trials, and steps of each."""
LIMIT: Final = 1.15
LOG: Final = "EACPS_DEMO_RENDERS"
"""The file to which the editor writes when it rendered."""


class SleepingEditor:
    """Takes half a second for a candidate, or its share for some of the steps."""

    name = "sleeping"

    def open(self, task: EditTask, images: TaskImages) -> SleepingEditor:
        """Nothing is prepared."""
        del task
        self._size = images.source.size
        return self

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> list[Render]:
        """Sleep, and return pictures of one colour."""
        return [self._render(trial, tick, (states or {}).get(trial.id)) for trial in trials]

    def _render(self, trial: Trial, tick: Tick, state: bytes | None) -> Render:
        first = int(state) if state else 0
        last = STEPS if trial.to_step is None else trial.to_step
        begun = time.time()
        for _ in range(first, last):
            time.sleep(CANDIDATE_SECONDS / STEPS)
            tick()
        with Path(os.environ[LOG]).open("a") as file:
            file.write(f"{begun} {time.time()} {last - first}\n")
        colour = Random(repr(trial.noise)).randbytes(3)
        image = Image.new("RGB", self._size, tuple(colour))
        paused = str(last).encode() if trial.to_step is not None else None
        return Render(trial, nfe=last - first, image=image, state=paused)


class SleepingJudge:
    """Takes two seconds for an answer, of which at most 16 are under way."""

    def __init__(self) -> None:
        self.calls = 0
        self._free = threading.BoundedSemaphore(CALLS_AT_ONCE)
        self._lock = threading.Lock()

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a chat completion."""
        with self._lock:
            self.calls += 1
            number = self.calls
        with self._free:
            time.sleep(CALL_SECONDS)
        text = json.dumps(body["messages"][-1])
        random = Random(number)
        said: dict[str, Any] = {"reason": "Seen.", "better": random.choice(("first", "second"))}
        if "better" not in text:
            names = ("satisfied", "preserved", "intact")
            said = {name: {"reason": "Seen.", "score": random.randrange(10)} for name in names}
        message = {"role": "assistant", "content": json.dumps(said)}
        usage = {"prompt_tokens": 1000, "completion_tokens": 50}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"choices": [choice], "usage": usage}


def measure(strategy: str, tasks: int) -> dict[str, Any]:
    """The times of one run."""
    judge = SleepingJudge()
    with tempfile.TemporaryDirectory() as place, serving(judge.answer) as address:
        folder = Path(place)
        write_tasks(demo_tasks(tasks, seed=5), folder / "tasks")
        renders = folder / "renders.txt"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "OPENAI_"))}
        variables = {
            **kept,
            LOG: str(renders),
            "EACPS_EDITOR": f"{Path(__file__).resolve()}:SleepingEditor",
            "EACPS_STEPS": str(STEPS),
            "EACPS_STRATEGY": strategy,
            "EACPS_VERIFIER": f"openai:sleeping@{address}",
        }
        command = [
            sys.executable,
            "-m",
            "eacps",
            "run",
            "--from-file",
            str(folder / "tasks" / "tasks.json"),
        ]
        done = subprocess.run(
            [*command, "--out", str(folder / "out")],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        rows = [tuple(map(float, line.split())) for line in renders.read_text().splitlines()]
        reports = [path for path in (folder / "out").glob("*.json") if path.stem != "summary"]
        ended = max(path.stat().st_mtime for path in reports)
    rendering = sum(row[2] for row in rows) * CANDIDATE_SECONDS / STEPS
    judging = judge.calls * CALL_SECONDS / CALLS_AT_ONCE
    wall = ended - min(row[0] for row in rows)
    return {
        "strategy": strategy,
        "tasks": tasks,
        "renders": len(rows),
        "calls": judge.calls,
        "rendering": round(rendering, 1),
        "rendering, as slept": round(sum(row[1] - row[0] for row in rows), 1),
        "judging": round(judging, 1),
        "wall": round(wall, 1),
        "ratio": round(wall / max(rendering, judging), 3),
        "load": os.getloadavg()[0],
    }


class Ideal:
    """32 searches that run all waves, on a device that begins a batch as soon as there is one."""

    def __init__(self, tasks: int, at_once: int) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._now = 0.0
        self._count = 0
        self._batches: deque[tuple[int, int, float]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._device_is_free = True
        self._calls_free = CALLS_AT_ONCE
        self._rounds = [0] * tasks
        self._left = [0] * tasks
        self._waiting = deque(range(at_once, tasks))
        for search in range(min(at_once, tasks)):
            self._begin_round(search)

    def seconds(self) -> float:
        """How long they take."""
        while self._events:
            self._now, _, act = heapq.heappop(self._events)
            act()
        return self._now

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self._now + seconds, self._count, act))

    def _begin_round(self, search: int) -> None:
        if self._rounds[search] == len(WAVES_ROUNDS):
            if self._waiting:
                self._begin_round(self._waiting.popleft())
            return
        count, steps = WAVES_ROUNDS[self._rounds[search]]
        self._rounds[search] += 1
        self._left[search] = count
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            self._batches.append((search, size, size * steps * CANDIDATE_SECONDS / STEPS))
        self._render()

    def _render(self) -> None:
        if self._device_is_free and self._batches:
            self._device_is_free = False
            search, size, seconds = self._batches.popleft()
            self._after(seconds, partial(self._rendered, search, size))

    def _rendered(self, search: int, size: int) -> None:
        self._device_is_free = True
        self._calls.extend([partial(self._answered, search)] * size)
        self._ask()
        self._render()

    def _ask(self) -> None:
        while self._calls_free and self._calls:
            self._calls_free -= 1
            self._after(CALL_SECONDS, self._calls.popleft())

    def _answered(self, search: int) -> None:
        self._calls_free += 1
        self._left[search] -= 1
        self._ask()
        if not self._left[search]:
            self._begin_round(search)


def ideal(tasks: int, at_once: int) -> float:
    """The wall time of so many searches at once, divided by what their renders take alone."""
    steps = sum(count * steps for count, steps in WAVES_ROUNDS)
    alone = tasks * steps * CANDIDATE_SECONDS / STEPS
    return Ideal(tasks, at_once).seconds() / alone


def main() -> None:
    """Measure, print, and fail where the device waited."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--strategy", action="append", help="default: best_of_n and waves")
    parser.add_argument("--ideal", action="store_true", help="compute what is possible for waves")
    options = parser.parse_args()
    if options.ideal:
        for at_once in (4, 8, 12, 16, 24, 32):
            print(f"{at_once} searches at once: {ideal(options.tasks, at_once):.3f}")
        return
    found = [measure(each, options.tasks) for each in options.strategy or ("best_of_n", "waves")]
    for row in found:
        print(json.dumps(row))
    raise SystemExit(any(row["ratio"] > LIMIT for row in found))


if __name__ == "__main__":
    main()
