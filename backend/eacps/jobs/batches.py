"""Runs the batches of a search on the workers, and reports progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dbos import DBOS, DBOSClient

from eacps import runner, tracing
from eacps.domain import Candidate, EditTask, Failure, Trial, digest, from_json, to_json
from eacps.errors import CancelledError
from eacps.jobs import names
from eacps.jobs.database import Records
from eacps.jobs.enqueueing import open_client
from eacps.jobs.outages import outlasting
from eacps.jobs.wakeups import Wakeups

Json = dict[str, Any]
ATTEMPTS = 3
REPORT_SECONDS = 0.5
"""How often progress is stored while batches finish."""


class _CancelledError(Exception):
    """The search was cancelled while it waited for a batch."""


@dataclass
class BatchDispatcher:
    """Runs batches in rounds. A round is one step of the search's workflow: all its batches are
    enqueued in one transaction, and after a crash those that ended are found by their names."""

    task: EditTask
    priority: int
    records: Records
    wakeups: Wakeups
    _known: set[str] = field(default_factory=set)
    _absent: set[str] = field(default_factory=set)
    _expected: int = 0
    _best: float | None = None
    _reported: float = float("-inf")
    _client: DBOSClient = field(init=False)
    _task_json: Json = field(init=False)

    def __post_init__(self) -> None:
        self._task_json = to_json(self.task)
        self._expected = runner.expected_trials(self.task)
        self._client = open_client(self.records)

    def expect(self, trials: int) -> None:
        """The search now expects to run this number of trials."""
        self._expected = trials

    def run_batches(self, batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        """Run all batches at once; returns candidates in the order of their trials."""
        own = DBOS.workflow_id or ""
        ended = DBOS.run_step({"name": "run batches"}, outlasting(self._run), own, batches)
        if ended["candidates"] is None:
            raise CancelledError("The search was cancelled.", hint="Retry the job.")
        candidates = [from_json(Candidate, content) for content in ended["candidates"]]
        for candidate in candidates:
            # Also when the step's result was read instead of made.
            self._count(candidate)
        return candidates

    def _run(self, own: str, batches: Sequence[Sequence[Trial]]) -> Json:
        self._report(own)
        found: list[Json] = []
        try:
            for identity, trials in zip(self._enqueue(batches), batches, strict=True):
                for content in self._gather(own, identity, trials):
                    found.append(content)
                    self._count(from_json(Candidate, content))
                if time.monotonic() - self._reported > REPORT_SECONDS:
                    self._report(own)
        except _CancelledError:
            return {"candidates": None}
        self._report(own)
        return {"candidates": found}

    def _enqueue(self, batches: Sequence[Sequence[Trial]]) -> list[str]:
        """Enqueue batches; those that exist stay as they are."""
        queue = names.device_queue(self.task.equipment)
        identities = []
        with self.records.engine.begin() as connection:
            for trials in batches:
                content = [to_json(trial) for trial in trials]
                identity = names.batch_workflow(self.task.key, digest(content))
                options = names.options(names.BATCH, queue, identity, self.priority)
                batch = {"task": self._task_json, "trials": content, "trace": tracing.carried()}
                self._client.enqueue_in_transaction(connection, options, batch)
                identities.append(identity)
        return identities

    def _gather(self, own: str, identity: str, trials: Sequence[Trial]) -> Iterator[Json]:
        """The candidates of a batch, when it has ended."""
        status = self._await(own, identity)
        for _ in range(ATTEMPTS):
            if status != "GONE":
                break
            # The batch of a worker with an older version was deleted in the meantime.
            self._enqueue([trials])
            status = self._await(own, identity)
        if status == "SUCCESS":
            yield from self.records.rows([identity])[identity].output["candidates"]
        elif status in ("CANCELLED", "GONE"):
            raise _CancelledError
        elif status == names.DEAD and len(trials) > 1:
            # Run the trials alone to find the one that kills the worker.
            alone = [[trial] for trial in trials]
            for single, [trial] in zip(self._enqueue(alone), alone, strict=True):
                yield from self._gather(own, single, [trial])
        else:
            failure = _crash_failure(status)
            yield from (to_json(Candidate(trial, failure=failure)) for trial in trials)

    def _await(self, own: str, identity: str) -> str:
        status = self.wakeups.wait_for_end(identity, own)
        if status == "GONE" and self.records.status(own).get(own) != "PENDING":
            return "CANCELLED"
        return status

    def _count(self, candidate: Candidate) -> None:
        if runner.no_such_choice(candidate):
            self._absent.add(candidate.id)
            return
        # A trial that was paused and resumed counts once.
        self._known.add(candidate.id)
        if candidate.outcome.usable and candidate.potential is not None:
            best = self._best
            self._best = candidate.potential if best is None else max(best, candidate.potential)

    def _report(self, own: str) -> None:
        self._reported = time.monotonic()
        finished = len(self._known)
        expected = max(finished, self._expected - len(self._absent))
        progress: Mapping[str, Any] = {
            "finished": finished,
            "expected": expected,
            "best": self._best,
        }
        self.records.set_event(own, names.PROGRESS_EVENT, progress)


def _crash_failure(status: str) -> Failure:
    if status == names.DEAD:
        return Failure(
            "worker_crashed",
            f"The worker crashed {names.CRASHES_BEFORE_GIVING_UP} times on this candidate. "
            "See the workers' log; the most likely reason is a lack of memory (EACPS_OFFLOAD).",
        )
    return Failure("internal_error", "The batch failed; see the workers' log.")
