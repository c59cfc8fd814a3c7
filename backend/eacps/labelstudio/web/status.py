"""The status page: what is queued, running and failed, who works, and buttons to retry and cancel.

`/status` needs no script; with status.js it refreshes itself without flicker. `/status.json` has
the same facts and takes the same filters.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import requests
from flask import Flask, Response, jsonify, redirect, request
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from werkzeug.datastructures import MultiDict

from eacps.errors import EacpsError
from eacps.faces.readiness import readiness
from eacps.jobs.contract import (
    STATES,
    JobFilter,
    JobState,
    PageEnd,
    can_only_fail_again,
    mixed_versions,
    over_quota_words,
    waiting_words,
)
from eacps.labelstudio.tasks.regions import mapping
from eacps.labelstudio.web.headers import STATUS_HEADERS
from eacps.labelstudio.web.job_facts import HOUR, age, backlog, described
from eacps.labelstudio.web.project_titles import ProjectTitles
from eacps.labelstudio.web.status_actions import SameOrigin
from eacps.labelstudio.web.throughput import throughput
from eacps.settings import Settings

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

    from eacps.jobs.contract import JobQueue, WorkerStatus
    from eacps.labelstudio.web.ml_model import Services

log = logging.getLogger(__name__)

RECENT: Final = 20
PAGE: Final = 50
COUNTED: Final = 1000
"""Jobs of a filter are counted up to this number."""
KEEP_SECONDS: Final = 1.0
"""So long, everybody who looks gets the same facts."""
MOST_KEPT: Final = 32
REFRESH_SECONDS: Final = 3
WITHOUT_SCRIPT_SECONDS: Final = 10
LABEL_STUDIO_EVERY_SECONDS: Final = 15.0
HEARTBEAT_STEP: Final = 10
EVERY: Final = "all"
_RUNNING: tuple[JobState, ...] = ("running", "delivering")
_FLASHES: Final = {
    "retried": "The job was queued again.",
    "cancelled": "The job was cancelled.",
    "not-retried": "Nothing was done: the job has not failed, or somebody retried it already.",
    "not-cancelled": "Nothing was done: the job has ended already.",
    "would-fail": "Nothing was done: the job would fail again. Correct its task, and open it.",
    "unknown": "There is no such job any more.",
}


@dataclass(frozen=True)
class Asked:
    """What the address of the page asks for: which jobs, from where on, and what was just done."""

    state: str = ""
    project: int | None = None
    task: int | None = None
    code: str = ""
    after: PageEnd | None = None
    said: str = ""

    @classmethod
    def of(cls, given: MultiDict[str, str]) -> Asked:
        """From a query or a form; what makes no sense is left out."""
        state, said = given.get("state", ""), given.get("said", "")
        created, _, job = given.get("after", "").partition("-")
        return cls(
            state=state if state in (*STATES, EVERY) else "",
            project=_whole(given.get("project", "")),
            task=_whole(given.get("task", "")),
            code=given.get("code", "").strip()[:80],
            after=PageEnd(_whole(created) or 0, job[:200]) if _whole(created) and job else None,
            said=said if said in _FLASHES else "",
        )

    @property
    def filtered(self) -> bool:
        """Whether a list of jobs is asked for instead of the overview."""
        return bool(self.state or self.project or self.task or self.code)

    @property
    def filter(self) -> JobFilter:
        """The jobs that are asked for."""
        state: JobState | None = next((each for each in STATES if each == self.state), None)
        return JobFilter(state, self.project, self.task, self.code)

    def query(self, **changes: Any) -> str:
        """The query of an address that asks for the same, but for these changes."""
        wanted = {**asdict(self), "after": self.after, "said": "", **changes}
        end = wanted["after"]
        wanted["after"] = f"{end.created}-{end.id}" if isinstance(end, PageEnd) else ""
        return urlencode({name: value for name, value in wanted.items() if value})


def _whole(words: str) -> int | None:
    fits = words.isascii() and words.isdigit() and len(words) < 16
    return int(words) or None if fits else None


def register(app: Flask, services: Services) -> None:
    """Add the routes of the status page."""
    page = StatusPage(services)
    app.add_url_rule("/status", "status", page.html)
    app.add_url_rule("/status.json", "status_json", page.json)
    app.add_url_rule("/status.js", "status_script", _script)
    app.add_url_rule("/status/jobs", "status_jobs", page.act, methods=["POST"])


class StatusPage:
    """The views."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._probe = _LabelStudioProbe()
        self._titles = ProjectTitles(services.settings)
        self._own = SameOrigin(services.settings)
        self._lock = threading.Lock()
        self._kept: dict[Asked, tuple[float, dict[str, Any]]] = {}
        self._charts: tuple[float, list[dict[str, Any]]] = (float("-inf"), [])
        """Until when they are shown, and the charts."""

    def html(self) -> Response:
        """The page, or 304 if the browser has it already."""
        asked = Asked.of(request.args)
        facts, token = self._facts(asked), self._own.token()
        tag = _tag(facts, token, asked)
        response = Response(status=304)
        if not request.if_none_match.contains(tag):
            response = Response(status_page(facts, asked, token=token, tag=tag))
        response.set_etag(tag)
        response.headers.update(STATUS_HEADERS)
        return response

    def json(self) -> Response:
        """The facts as JSON."""
        return jsonify(self._facts(Asked.of(request.args)))

    def act(self) -> AnyResponse:
        """Retry or cancel a job, and lead back to the page."""
        self._own.require(request)
        said = self._done(request.form.get("action", ""), request.form.get("job", ""))
        with self._lock:
            self._kept.clear()
        asked = Asked.of(MultiDict(request.form))
        # Relative, because a proxy may serve us below a path.
        return redirect(f"../status?{asked.query(said=said)}", 303)

    def _done(self, action: str, job: str) -> str:
        jobs = self._services.jobs
        status = jobs.status(job)
        if status is None:
            return "unknown"
        log.info("status page: %.20s of job %s", action, job)
        if action == "cancel":
            return "cancelled" if jobs.cancel(job) else "not-cancelled"
        if can_only_fail_again(status) and action != "retry-anyway":
            return "would-fail"
        return "retried" if jobs.retry(job) else "not-retried"

    def _facts(self, asked: Asked) -> dict[str, Any]:
        asked = Asked(asked.state, asked.project, asked.task, asked.code, asked.after)
        # One at a time: whoever comes meanwhile gets the same answer.
        with self._lock:
            made, facts = self._kept.get(asked, (float("-inf"), {}))
            if time.monotonic() - made > KEEP_SECONDS:
                facts = self._fresh_facts(asked)
                while len(self._kept) >= MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept.pop(asked, None)
                self._kept[asked] = (time.monotonic(), facts)
            return facts

    def _fresh_facts(self, asked: Asked) -> dict[str, Any]:
        """The facts; an unreachable queue is one of them."""
        settings = self._services.settings
        facts: dict[str, Any] = {
            "model_version": settings.model_version,
            "label_studio": {
                "url": settings.label_studio_url,
                "state": self._probe.state(settings),
            },
            "faces": _faces(settings),
        }
        try:
            facts |= self._queue_facts(asked)
        except Exception as error:
            log.exception("status could not reach the queue")
            told = str(error) if isinstance(error, EacpsError) else type(error).__name__
            facts["queue_error"] = f"The queue cannot be reached: {told}"
        return facts

    def _queue_facts(self, asked: Asked) -> dict[str, Any]:
        jobs = self._services.jobs
        counts = mapping(jobs.counts())
        workers = jobs.workers()
        return {
            "counts": {state: counts.get(state, 0) for state in STATES},
            "backlog": backlog(counts.get("queued", 0), jobs.ended_since(time.time() - HOUR)),
            "throughput": self._throughput(jobs),
            "workers": [_worker(worker) for worker in workers],
            "versions": mixed_versions(workers),
            "waiting": [
                *(waiting_words(waiting) for waiting in jobs.waiting()),
                *(over_quota_words(over) for over in jobs.over_quota()),
            ],
            **self._job_facts(asked),
        }

    def _throughput(self, jobs: JobQueue) -> list[dict[str, Any]]:
        until, charts = self._charts
        if time.monotonic() > until:
            began = time.monotonic()
            charts = throughput(jobs)
            ended = time.monotonic()
            # Counting the jobs of a busy day may take up a twentieth of the time.
            self._charts = (ended + 20 * (ended - began), charts)
        return charts

    def _job_facts(self, asked: Asked) -> dict[str, Any]:
        jobs = self._services.jobs
        settings = self._services.settings
        address = settings.label_studio_browser_url or settings.label_studio_url
        projects = jobs.projects()
        titles = self._titles.of(projects)
        running = [job for state in _RUNNING for job in jobs.list(RECENT, state)]
        facts: dict[str, Any] = {
            "projects": [{"id": each, "title": titles.get(each, "")} for each in projects],
            "codes": jobs.failure_codes(),
            "running": described(running, jobs, self._titles.of, address),
            "failures": described(jobs.list(RECENT, "failed"), jobs, self._titles.of, address),
        }
        if asked.filtered:
            page = jobs.page(asked.filter, PAGE, asked.after)
            facts["jobs"] = described(page.jobs, jobs, self._titles.of, address)
            facts["number"] = jobs.number(asked.filter, COUNTED + 1)
            facts["next"] = asked.query(after=page.end) if page.end else ""
        return facts


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


def _faces(settings: Settings) -> dict[str, str]:
    """The face engine, judging by files on this machine; workers may run on other ones."""
    found = readiness(settings)
    problem = list(found.problems.values())[-1]
    return {
        "setting": settings.face_engine,
        "engine": found.engine,
        "problem": "" if found.engine else str(problem),
    }


def _worker(worker: WorkerStatus) -> dict[str, Any]:
    return {
        "name": worker.name,
        "role": worker.role,
        "device": worker.device,
        "age": round(worker.age, 1),
        "heartbeat": _heartbeat(worker.age),
        "note": worker.note,
        "release": worker.release,
        "draining": worker.draining,
    }


def _heartbeat(seconds: float) -> str:
    """In steps, so that the page changes only if a heartbeat is late."""
    steps = int(max(0.0, seconds) // HEARTBEAT_STEP)
    return f"{steps * HEARTBEAT_STEP} s ago" if steps else "just now"


def _tag(facts: Mapping[str, Any], token: str, asked: Asked) -> str:
    """Changes when the page changes, but for the ages, which the script counts on."""
    workers = [{**worker, "age": 0} for worker in facts.get("workers", ())]
    content = json.dumps([{**facts, "workers": workers}, token, asked.said], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def status_page(facts: Mapping[str, Any], asked: Asked, *, token: str, tag: str) -> str:
    """The page."""
    return _template().render(
        facts,
        asked=asked,
        token=token,
        tag=tag,
        now=time.time(),
        flash=_FLASHES.get(asked.said, ""),
        states=STATES,
        every=EVERY,
        counted=COUNTED,
        refresh_seconds=REFRESH_SECONDS,
        without_script_seconds=WITHOUT_SCRIPT_SECONDS,
    )


def _script() -> Response:
    response = Response(_script_text(), mimetype="text/javascript")
    response.set_etag(hashlib.sha256(_script_text().encode()).hexdigest()[:24])
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response


@cache
def _script_text() -> str:
    return (files("eacps.labelstudio.web") / "static" / "status.js").read_text("utf-8")


@cache
def _template() -> Template:
    # Not Flask's templates, which belong to label-studio-ml's app.
    environment = Environment(
        loader=PackageLoader("eacps.labelstudio.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = environment.filters
    filters["age"] = age
    filters["iso"] = lambda moment: datetime.fromtimestamp(moment, UTC).isoformat(" ", "seconds")
    return environment.get_template("status.html")
