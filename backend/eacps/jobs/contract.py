"""What the rest of the product may know about jobs: plain values and three protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from eacps.domain import Candidate, EditTask, Failure, SearchResult, Trial

JobState = Literal["queued", "running", "delivering", "done", "failed", "cancelled"]
STATES: tuple[JobState, ...] = (
    "queued",
    "running",
    "delivering",
    "done",
    "failed",
    "cancelled",
)
INTERACTIVE_PRIORITY = 1
BATCH_PRIORITY = 10


@dataclass(frozen=True)
class Job:
    """One thing to do: `id` deduplicates, `origin` is JSON that only the hooks understand."""

    id: str
    origin: Mapping[str, Any]
    priority: int = BATCH_PRIORITY


@dataclass(frozen=True)
class JobStatus:
    """How far a job is; `key` is its EditTask's, once that is known."""

    id: str
    state: JobState
    finished: int = 0
    expected: int = 0
    best: float | None = None
    failure: Failure | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    updated: float = 0.0
    key: str | None = None
    note: str = ""


@dataclass(frozen=True)
class WorkerStatus:
    """One live process that works on jobs; `age` is seconds since its last heartbeat."""

    name: str
    role: str
    device: str
    pid: int
    age: float
    started: float
    equipment: str = ""


@dataclass(frozen=True)
class WaitingBatches:
    """Batches that wait for a worker with another editor or other judges than the live ones have;
    `words` says which."""

    equipment: str
    words: str
    count: int


def waiting_words(waiting: WaitingBatches) -> str:
    """What waits, for whom, and what to do about it."""
    batches = "1 batch waits" if waiting.count == 1 else f"{waiting.count} batches wait"
    return (
        f"{batches} for a worker with other settings than the running ones have: "
        f"{waiting.words or waiting.equipment}. Start one, or ask anew with the settings of now: "
        "`eacps jobs restart --waiting`."
    )


class JobQueue(Protocol):
    """What those who hand in jobs and look at them may ask of the queue (client.JobClient)."""

    def submit(self, job: Job) -> bool:
        """Hand in a job; False when its id was known already."""
        ...

    def submit_many(self, jobs: Sequence[Job]) -> int:
        """Hand in jobs, all or none; returns how many are new."""
        ...

    def status(self, job: str) -> JobStatus | None:
        """How far a job is; None when it is not known."""
        ...

    def statuses(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        """How far these jobs are; the unknown are left out."""
        ...

    def list(self, limit: int = ..., state: JobState | None = None) -> Sequence[JobStatus]:
        """Jobs, newest first; only of one state when that is named."""
        ...

    def result(self, job: str, timeout: float = 0.0) -> SearchResult | Failure | None:
        """A job's outcome as soon as its search ended; None when that takes longer."""
        ...

    def retry(self, job: str) -> bool:
        """Run a failed or cancelled job again, keeping its finished batches; False otherwise."""
        ...

    def restart(self, job: str) -> bool:
        """Run a job from its beginning, with the settings of now; False when it is not known."""
        ...

    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in which state."""
        ...

    def workers(self) -> Sequence[WorkerStatus]:
        """The live processes that work on jobs."""
        ...

    def waiting(self) -> Sequence[WaitingBatches]:
        """Batches that no live worker can take, because none has loaded what they were made for."""
        ...


class TaskHooks(Protocol):
    """How jobs begin and end; given by the entry point, called in the orchestrator.

    Each may be called again after a crash, so each must be safe to repeat.
    """

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        """Fetch and check what the origin names. A RetryLaterError is tried again later."""
        ...

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        """Bring a result to where it belongs. A RetryLaterError is tried again later."""
        ...

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        """Say what went wrong; same rules as deliver."""
        ...


class DeviceRunner(Protocol):
    """Renders and scores batches on one device (pipeline.Device)."""

    def run_batch(
        self, task: EditTask, trials: Sequence[Trial], tick: Callable[[], None]
    ) -> Sequence[Candidate]:
        """One candidate per trial, in order; `tick` is called often and may raise."""
        ...
