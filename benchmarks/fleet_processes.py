"""An orchestrator and workers with everything real but the editor and Label Studio: a batch only
takes time, and a delivery nothing. What remains is the cost of the engine.

`python benchmarks/fleet_processes.py orchestrator|worker [SLOT]`, with EACPS_DATA_DIR set.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eacps import log
from eacps.domain import Candidate, EditTask, Failure, SearchPlan, SearchResult, Trial
from eacps.jobs.contract import Job, KnownOrigins
from eacps.settings import load_settings

STARTS = "starts.jsonl"
"""When the batches of which tasks began."""


class SleepingDevice:
    """Takes as long for a batch as its task says."""

    def run_batch(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Callable[[], None],
        let_go: Callable[[], None],
    ) -> list[Candidate]:
        del let_go
        with Path(os.environ["EACPS_DATA_DIR"], STARTS).open("a") as file:
            file.write(json.dumps([json.loads(task.instruction)["task"], time.time()]) + "\n")
        end = time.monotonic() + json.loads(task.instruction)["seconds"]
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            tick()
        return [Candidate(trial, potential=_number(trial), nfe=1, seconds=0.1) for trial in trials]


def _number(trial: Trial) -> float:
    return int(hashlib.sha256(repr(trial.noise).encode()).hexdigest()[:6], 16) / 0xFFFFFF


class Hooks:
    """Makes a task of each job, and delivers nowhere."""

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        plan = SearchPlan(origin["strategy"], origin["parameters"], seed=1, batch_size=1)
        wish = json.dumps({"task": origin["task"], "seconds": origin["seconds"]})
        return EditTask(image="0" * 40 + ".png", instruction=wish, plan=plan)

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        pass

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        pass

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        """Nobody waits here."""

    def overlooked(self, known: KnownOrigins) -> Iterable[Sequence[Job]]:
        del known
        return ()


def main(role: str, slot: str = "0") -> None:
    """One process of the fleet."""
    settings = load_settings()
    log.configure("INFO", "text", role)
    if role == "orchestrator":
        from eacps.jobs.orchestrator import run_orchestrator

        run_orchestrator(settings, Hooks())
    from eacps.jobs.worker import run_worker

    run_worker(settings, int(slot), "sleep", lambda _: SleepingDevice())


if __name__ == "__main__":
    main(*sys.argv[1:])
