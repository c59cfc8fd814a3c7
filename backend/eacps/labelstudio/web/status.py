"""The status page: queued, running and failed jobs, and workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import requests
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from eacps.errors import EacpsError
from eacps.faces.readiness import readiness
from eacps.jobs.contract import STATES, JobState, mixed_versions, waiting_words
from eacps.labelstudio.tasks.regions import mapping
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.contract import JobStatus, WorkerStatus
    from eacps.labelstudio.web.ml_model import Services

log = logging.getLogger(__name__)

RECENT = 20
REFRESH_SECONDS = 3
LABEL_STUDIO_EVERY_SECONDS = 15.0
HOUR = 3600.0
LONG_QUEUE = 20
_RUNNING: tuple[JobState, ...] = ("running", "delivering")


class _LabelStudioProbe:
    """Checks in the background whether Label Studio is reachable."""

    def __init__(self) -> None:
        self._known = "not checked yet"
        self._checked = float("-inf")
        self._lock = threading.Lock()

    def state(self, settings: Settings) -> str:
        """The last known state, such as `reachable`, without waiting."""
        if not settings.label_studio_url:
            return "not configured"
        with self._lock:
            due = time.monotonic() - self._checked > LABEL_STUDIO_EVERY_SECONDS
            if due:
                self._checked = time.monotonic()
        if due:
            threading.Thread(
                target=self._ask, args=(settings.label_studio_url,), daemon=True
            ).start()
        return self._known

    def _ask(self, url: str) -> None:
        try:
            answer = requests.get(f"{url}/health", timeout=3, allow_redirects=False)
            self._known = "reachable" if answer.ok else f"answers {answer.status_code}"
        except requests.RequestException as error:
            self._known = f"not reachable ({type(error).__name__})"


_probe = _LabelStudioProbe()


def status_facts(services: Services) -> dict[str, Any]:
    """The status as JSON; reports an unreachable queue instead of raising."""
    settings = services.settings
    facts: dict[str, Any] = {
        "model_version": settings.model_version,
        "label_studio": {
            "url": settings.label_studio_url,
            "state": _probe.state(settings),
        },
        "faces": _faces(settings),
    }
    try:
        facts |= _queue_facts(services)
    except Exception as error:
        log.exception("status could not reach the queue")
        told = str(error) if isinstance(error, EacpsError) else type(error).__name__
        facts["queue_error"] = f"The queue cannot be reached: {told}"
    return facts


def _faces(settings: Settings) -> dict[str, str]:
    """The face engine, judging by files on this machine; workers may run on other ones."""
    found = readiness(settings)
    problem = list(found.problems.values())[-1]
    return {
        "setting": settings.face_engine,
        "engine": found.engine,
        "problem": "" if found.engine else str(problem),
    }


def _queue_facts(services: Services) -> dict[str, Any]:
    jobs = services.jobs
    counts = mapping(jobs.counts())
    workers = jobs.workers()
    running = [job for state in _RUNNING for job in jobs.list(RECENT, state)]
    return {
        "counts": {state: counts.get(state, 0) for state in STATES},
        "backlog": backlog(counts.get("queued", 0), jobs.ended_since(time.time() - HOUR)),
        "running": [_job(job) for job in running],
        "failures": [_job(job) for job in jobs.list(RECENT, "failed")],
        "workers": [_worker(worker) for worker in workers],
        "versions": mixed_versions(workers),
        "waiting": [waiting_words(waiting) for waiting in jobs.waiting()],
    }


def backlog(queued: int, ended: int) -> str:
    """A sentence about the jobs that wait, if there are many, from how many ended in an hour."""
    if queued < LONG_QUEUE:
        return ""
    if not ended:
        return f"{queued:,} jobs wait, and none ended within the last hour."
    return (
        f"{queued:,} jobs wait. {ended:,} ended within the last hour: at that speed, the last one "
        f"begins in about {_duration(queued / ended)}. What somebody waits for in Label Studio "
        "goes first."
    )


def _duration(hours: float) -> str:
    for unit, length in (("day", 24.0), ("hour", 1.0)):
        if hours >= 2 * length:
            return f"{round(hours / length)} {unit}s"
    minutes = max(1, round(60 * hours))
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def _job(status: JobStatus) -> dict[str, Any]:
    origin = mapping(status.origin)
    failure = status.failure
    return {
        "id": status.id,
        "state": status.state,
        "task": origin.get("task"),
        "project": origin.get("project"),
        "finished": status.finished,
        "expected": status.expected,
        "best": status.best,
        "note": status.note,
        "failure": {"code": failure.code, "message": failure.message} if failure else None,
        "updated": status.updated,
    }


def _worker(worker: WorkerStatus) -> dict[str, Any]:
    return {
        "name": worker.name,
        "role": worker.role,
        "device": worker.device,
        "age": round(worker.age, 1),
        "note": worker.note,
        "release": worker.release,
        "draining": worker.draining,
    }


def status_page(facts: Mapping[str, Any]) -> str:
    """The status as a page that refreshes automatically."""
    return _page().render(facts, refresh_seconds=REFRESH_SECONDS)


@cache
def _page() -> Template:
    # Not Flask's templates, which belong to label-studio-ml's app.
    environment = Environment(
        loader=PackageLoader("eacps.labelstudio.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("status.html")
