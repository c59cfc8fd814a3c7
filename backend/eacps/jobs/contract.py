"""The interface of the jobs package: plain values and three protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from eacps.domain import Candidate, EditTask, Failure, SearchResult, Trial
from eacps.errors import FAULTS_OF_TASKS, EacpsError

JobState = Literal["queued", "running", "delivering", "done", "failed", "cancelled"]
STATES: tuple[JobState, ...] = (
    "queued",
    "running",
    "delivering",
    "done",
    "failed",
    "cancelled",
)
MOST_AHEAD = 1000
INTERACTIVE_PRIORITY = 1
BATCH_PRIORITY = 10
"""The priority of the first job of a batch; shares.py gives later ones higher numbers."""
DEFAULT_COST = 8.0


@dataclass(frozen=True)
class LargeValue:
    """A value of a job's origin that is stored as a file, and its place there."""

    path: tuple[str | int, ...]
    file: str


@dataclass(frozen=True)
class Job:
    """A unit of work. `id` deduplicates jobs; `origin` is JSON that only the hooks interpret.

    `losses` counts how often its pictures were lost before they could be delivered. `large` are
    the values that are not in its row (large_values.py). `subject` is what it is about, such as a
    task: `JobQueue.about` lists jobs by it.
    `trace` holds ids for logs and spans, which are no part of what is asked for.
    `project` is whose share of the workers it counts for, with its `cost` in full renders and the
    most `candidates` that its search begins.
    """

    id: str
    origin: Mapping[str, Any]
    priority: int = BATCH_PRIORITY
    losses: int = 0
    large: tuple[LargeValue, ...] = ()
    trace: Annotated[Mapping[str, str], Field(exclude_if=lambda trace: not trace)] = field(
        default_factory=dict, compare=False
    )
    subject: Annotated[str, Field(exclude_if=lambda subject: not subject)] = field(
        default="", compare=False
    )
    project: Annotated[str, Field(exclude_if=lambda project: not project)] = field(
        default="", compare=False
    )
    candidates: Annotated[int, Field(exclude_if=lambda number: not number)] = field(
        default=0, compare=False
    )
    cost: Annotated[float, Field(exclude_if=lambda cost: cost == DEFAULT_COST)] = field(
        default=DEFAULT_COST, compare=False
    )


@dataclass(frozen=True)
class OverQuota:
    """Jobs of a project that wait until tomorrow, because it has used its candidates of today."""

    project: str
    jobs: int
    quota: int


@dataclass(frozen=True)
class JobStatus:
    """The status of a job; `key` is that of its EditTask, once it is known, and `began` is when its
    search began. All moments are in seconds since the epoch."""

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

    began: float | None = None


@dataclass(frozen=True)
class JobFilter:
    """Which jobs to list: those in a state, of a project or task, that failed with a code. What is
    empty does not matter."""

    state: JobState | None = None
    project: int | None = None
    task: int | None = None
    code: str = ""


@dataclass(frozen=True, order=True)
class PageEnd:
    """The last job of a page, after which the next page begins: its creation, in milliseconds since
    the epoch, and its id."""

    created: int
    id: str


@dataclass(frozen=True)
class JobPage:
    """Some jobs, newest first, and where the next page begins; None after the last one."""

    jobs: Sequence[JobStatus]
    end: PageEnd | None = None


@dataclass(frozen=True)
class Search:
    """What is stored of a search: what it was asked for, and its result when it has ended. Until
    then, `candidates` are those that exist already, in the order in which they were made."""

    task: EditTask
    result: SearchResult | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class WorkerStatus:
    """A live worker or orchestrator; `age` is the seconds since its last heartbeat. Processes of
    one `version` share their work; `release` is the program's version."""

    name: str
    role: str
    device: str
    pid: int
    age: float
    started: float
    equipment: str = ""
    note: str = ""
    version: str = ""
    release: str = ""
    draining: bool = False


@dataclass(frozen=True)
class WaitingBatches:
    """Batches that no live worker takes: because it has loaded other models than `words` describes,
    or because it is of another version."""

    equipment: str
    words: str
    count: int
    cause: Literal["settings", "version", "earlier version"] = "settings"


@dataclass(frozen=True)
class Delays:
    """How long jobs have been waiting, in seconds, and how many wait to be tried again, by what
    failed: `prepare` or `deliver`."""

    oldest_queued: float = 0.0
    oldest_delivery: float = 0.0
    retrying: Mapping[str, int] = field(default_factory=dict)


def can_only_fail_again(status: JobStatus) -> bool:
    """Whether a job failed because of its task itself, so that retrying it changes nothing."""
    failure = status.failure if status.state == "failed" else None
    return failure is not None and failure.code in FAULTS_OF_TASKS


def waiting_words(waiting: WaitingBatches) -> str:
    """A message that says which batches wait for which worker, and what to do."""
    batches = "1 batch waits" if waiting.count == 1 else f"{waiting.count} batches wait"
    if waiting.cause == "earlier version":
        return (
            f"{batches} for a worker of an earlier version, and none is running. An orchestrator "
            "of that version still has their searches: drain it (`eacps drain HOST`), and this "
            "version continues them."
        )
    if waiting.cause == "version":
        return (
            f"{batches} for a worker of the version that runs their searches: the running workers "
            "are of another. Upgrade them: `eacps drain HOST`, install, start."
        )
    return (
        f"{batches} for a worker with other settings than the running ones: "
        f"{waiting.words or waiting.equipment}. Start one, or restart the jobs with the current "
        "settings: `eacps jobs restart --waiting`."
    )


def over_quota_words(over: OverQuota) -> str:
    """A message that says which tasks wait until tomorrow, and why."""
    tasks = "1 task waits" if over.jobs == 1 else f"{over.jobs:,} tasks wait"
    return (
        f"Project {over.project}: {tasks} until tomorrow (midnight UTC), because it has used its "
        f"{over.quota:,} candidates of today (EACPS_PROJECT_QUOTAS)."
    )


def mixed_versions(workers: Iterable[WorkerStatus]) -> str:
    """A message if processes of several versions are running, or an empty text."""
    releases: dict[str, set[str]] = {}
    hosts: dict[str, set[str]] = {}
    for worker in workers:
        releases.setdefault(worker.version, set()).add(worker.release)
        hosts.setdefault(worker.version, set()).add(worker.name.rpartition("/")[0])
    if len(releases) < 2:
        return ""
    running = "; ".join(
        f"{', '.join(sorted(releases[version]))} on {', '.join(sorted(hosts[version]))}"
        for version in sorted(releases)
    )
    return (
        f"Several versions are running: {running}. Each finishes what it has begun. To complete "
        "the upgrade: `eacps drain HOST`, install, start."
    )


class JobQueue(Protocol):
    """The job queue for those who submit and inspect jobs (client.JobClient)."""

    def submit(self, job: Job) -> bool:
        """Submit a job; returns False if its id exists already."""
        ...

    def submit_many(self, jobs: Sequence[Job]) -> int:
        """Submit jobs in portions; returns how many are new. If this fails, some may be stored."""
        ...

    def status(self, job: str) -> JobStatus | None:
        """The status of a job, or None if it is unknown."""
        ...

    def statuses(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        """The statuses of jobs; unknown ones are left out."""
        ...

    def list(self, limit: int = ..., state: JobState | None = None) -> Sequence[JobStatus]:
        """Jobs, newest first, optionally only those in one state."""
        ...

    def page(self, wanted: JobFilter, limit: int, after: PageEnd | None = None) -> JobPage:
        """At most `limit` jobs, newest first, from the beginning or after another page."""
        ...

    def number(self, wanted: JobFilter, most: int) -> int:
        """The number of jobs, counted up to `most`."""
        ...

    def projects(self) -> Sequence[int]:
        """The projects of the jobs that are kept."""
        ...

    def failure_codes(self) -> Sequence[str]:
        """The codes with which jobs have failed."""
        ...

    def places(self, jobs: Iterable[str]) -> Mapping[str, int]:
        """The places of queued jobs in the order in which they begin, from 1."""
        ...

    def speed(self) -> float:
        """Jobs that ended per second, for as long as there has been a queue, and at most within the
        last hour; 0 if there is no queue."""
        ...

    def ended_by_time(self, since: float, seconds: int) -> Mapping[tuple[JobState, int], int]:
        """How many jobs were done or failed since a moment, by state and by slots that are so many
        seconds long."""
        ...

    def cancel(self, job: str) -> bool:
        """Cancel a job; returns False if it has ended. A search that other jobs need continues."""
        ...

    def result(self, job: str, timeout: float = 0.0) -> SearchResult | Failure | None:
        """Wait for the end of a job's search and return its outcome, or None after the timeout."""
        ...

    def retry(self, job: str) -> bool:
        """Run a failed or cancelled job again, keeping finished batches; otherwise return False."""
        ...

    def restart(self, job: str) -> bool:
        """Run a job from its beginning with the current settings; False if it is unknown."""
        ...

    def counts(self) -> Mapping[JobState, int]:
        """The number of jobs in each state."""
        ...

    def ended_since(self, moment: float) -> int:
        """The number of jobs that ended since a moment, in seconds since the epoch."""
        ...

    def workers(self) -> Sequence[WorkerStatus]:
        """The live workers and orchestrators."""
        ...

    def waiting(self) -> Sequence[WaitingBatches]:
        """Batches that no live worker can run, because none has loaded the models they need."""
        ...

    def over_quota(self) -> Sequence[OverQuota]:
        """The projects whose jobs wait until tomorrow."""
        ...

    def delays(self) -> Delays:
        """How long jobs have been waiting, and how many wait to be tried again."""
        ...

    def extra_params(self, project: str) -> str:
        """The extra parameters of a project's ML backend, as JSON; an empty string without any."""
        ...

    def remember_extra_params(self, project: str, content: str) -> bool:
        """Remember a project's extra parameters; returns whether they are others than before."""
        ...

    def check(self) -> None:
        """Raise an exception if no job can be submitted now."""
        ...

    def about(self, subject: str, limit: int = ...) -> Sequence[JobStatus]:
        """The jobs about a subject, newest first."""
        ...

    def ahead(self, status: JobStatus) -> int | None:
        """How many others wait in front of a job, or in front of its search; None if it does not
        wait. At most MOST_AHEAD are counted."""
        ...

    def search(self, key: str) -> Search | None:
        """What is stored of the search with this key."""
        ...

    def ask_on_panel(
        self, request: PanelRequest, limits: PanelLimits, least: int, make: MakeJob
    ) -> tuple[int, bool]:
        """Submit the job of a request; returns its number within its task (`least` or more), and
        whether it is new. Raises PanelLimitError."""
        ...

    def panel_today(self, place: str) -> PanelToday:
        """What a task's panel asked for within a day."""
        ...

    def recent_results(self, limit: int) -> Sequence[SearchResult]:
        """The results of the newest searches, newest first."""
        ...

    def revoke(self, scope: str) -> float:
        """From now on, `revoked` names this moment for the scope; returns it."""
        ...

    def revoked(self, scopes: Iterable[str]) -> Mapping[str, float]:
        """When each of these scopes was revoked last, in seconds since the epoch; others are left
        out."""
        ...


class PanelLimitError(EacpsError):
    """A task's limit for a day is reached."""

    code = "panel_limit"


@dataclass(frozen=True)
class PanelRequest:
    """What a person asked for on a review panel: the job that it becomes, and the place (a task of
    a Label Studio) that it is for."""

    job: str
    place: str
    action: str
    candidates: int


@dataclass(frozen=True)
class PanelToday:
    """What a task had within the last day."""

    actions: int = 0
    candidates: int = 0


@dataclass(frozen=True)
class PanelLimits:
    """How many requests, and candidates, a task may have within a day."""

    actions: int
    candidates: int

    def require_room(self, today: PanelToday, actions: int, candidates: int = 0) -> None:
        """Raise PanelLimitError if there is no room for more."""
        if today.actions + actions > self.actions:
            raise PanelLimitError(
                f"This task had {today.actions} requests from its panel within a day, which is the "
                "limit.",
                hint="Wait, or ask the administrator to raise EACPS_PANEL_ACTIONS_PER_DAY.",
            )
        if today.candidates + candidates > self.candidates:
            raise PanelLimitError(
                f"This task had {today.candidates} candidates from its panel within a day; "
                f"{candidates} more are over the limit of {self.candidates}.",
                hint="Ask for fewer, wait, or ask the administrator to raise "
                "EACPS_PANEL_CANDIDATES_PER_DAY.",
            )


MakeJob = Callable[[int, frozenset[int]], tuple[Job, Sequence[int]]]
"""From the number of a request within its task, and the seeds that others there draw, to its job
and the seeds that it draws."""
KnownOrigins = Callable[[float], Iterable[Mapping[str, Any]]]
"""The origins of all jobs that were submitted since a moment, in seconds since the epoch."""


class TaskHooks(Protocol):
    """How jobs begin and end. The orchestrator calls these hooks.

    After a crash a hook may be called again, so it must be idempotent.
    """

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        """Fetch and validate the task of an origin. A RetryLaterError leads to a retry."""
        ...

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        """Deliver a result to its origin. A RetryLaterError leads to a retry."""
        ...

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        """Report a failure; same rules as `deliver`."""
        ...

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        """Say where the result is expected that it comes later; same rules as `deliver`."""
        ...

    def overlooked(self, known: KnownOrigins) -> Iterable[Sequence[Job]]:
        """Jobs that nobody submitted although they should exist, in portions. A portion is stored
        before the next one is asked for; jobs that exist already do no harm."""
        ...


class DeviceRunner(Protocol):
    """Renders and scores batches on one device (runner.Device)."""

    def run_batch(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Callable[[], None],
        let_go: Callable[[], None],
    ) -> Sequence[Candidate]:
        """Return one candidate per trial, in order; `tick` is called often and may raise. `let_go`
        may be called once, when what is left to do needs no device: another batch then begins."""
        ...
