"""The status page: what is queued, what runs, what failed and why, who works."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import requests

from eacps.errors import EacpsError
from eacps.faces.readiness import readiness
from eacps.jobs.contract import STATES, JobState
from eacps.labelstudio.tasks.regions import mapping
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.contract import JobStatus, WorkerStatus
    from eacps.labelstudio.web.ml_model import Services

log = logging.getLogger(__name__)

RECENT = 20
REFRESH_SECONDS = 3
LABEL_STUDIO_EVERY_SECONDS = 15.0
_RUNNING: tuple[JobState, ...] = ("running", "delivering")


class _LabelStudioProbe:
    """Remembers whether Label Studio answered; asks again in the background."""

    def __init__(self) -> None:
        self._known = "not checked yet"
        self._checked = float("-inf")
        self._lock = threading.Lock()

    def state(self, settings: Settings) -> str:
        """`reachable`, `not reachable`, ...: as last known, without waiting."""
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
    """The status as JSON; a broken queue is a fact, too."""
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
    """The engine as far as this machine's files tell; workers may run on another one."""
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
    running = [job for state in _RUNNING for job in jobs.list(RECENT, state)]
    return {
        "counts": {state: counts.get(state, 0) for state in STATES},
        "running": [_job(job) for job in running],
        "failures": [_job(job) for job in jobs.list(RECENT, "failed")],
        "workers": [_worker(worker) for worker in jobs.workers()],
    }


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
    }


def status_page(facts: Mapping[str, Any]) -> str:
    """The status as a page that refreshes itself."""
    label_studio = facts["label_studio"]
    site = str(label_studio["url"])
    parts = [
        f"<p>Model version <b>{_text(facts['model_version'])}</b> · Label Studio "
        f"{_text(site or 'address')}: <b>{_text(label_studio['state'])}</b> · "
        f"faces: <b>{_text(facts['faces']['engine'] or 'no engine')}</b></p>"
    ]
    if "queue_error" in facts:
        parts.append(f"<p class='alarm'>{_text(facts['queue_error'])}</p>")
    else:
        parts += [
            _counts(facts["counts"]),
            _section("Running", facts["running"], partial(_running_row, site), "Nothing runs."),
            _section("Recent failures", facts["failures"], partial(_failure_row, site), "None."),
            _section("Workers", facts["workers"], _worker_row, "No worker is alive."),
        ]
    return _PAGE.replace("{body}", "".join(parts))


def _counts(counts: Mapping[str, int]) -> str:
    cells = "".join(
        f"<div class='count{' alarm' if state == 'failed' and number else ''}'>"
        f"<b>{int(number)}</b>{_text(state)}</div>"
        for state, number in counts.items()
    )
    return f"<div class='counts'>{cells}</div>"


def _section(title: str, rows: Sequence[Any], row: Any, empty: str) -> str:
    if not rows:
        return f"<h2>{title}</h2><p class='muted'>{empty}</p>"
    return f"<h2>{title}</h2><table>{''.join(map(row, rows))}</table>"


def _running_row(site: str, job: Mapping[str, Any]) -> str:
    share = 100 * (job["finished"] or 0) / max(1, job["expected"] or 1)
    best = "" if job["best"] is None else f"best {job['best']:.3f}"
    note = f"<div class='muted'>{_text(job['note'])}</div>" if job["note"] else ""
    return (
        f"<tr><td>{_name(site, job)}</td><td>{_text(job['state'])}{note}</td>"
        f"<td><div class='bar'><div style='width:{min(100, share):.0f}%'></div></div></td>"
        f"<td>{job['finished'] or 0} of {job['expected'] or '?'}</td><td>{best}</td></tr>"
    )


def _failure_row(site: str, job: Mapping[str, Any]) -> str:
    failure = job["failure"] or {"code": "", "message": ""}
    return (
        f"<tr><td>{_name(site, job)}</td><td>{_text(failure['message'])} "
        f"<span class='muted'>({_text(failure['code'])})</span></td></tr>"
    )


def _worker_row(worker: Mapping[str, Any]) -> str:
    return (
        f"<tr><td>{_text(worker['name'])}</td><td>{_text(worker['role'])}</td>"
        f"<td>{_text(worker['device'])}</td>"
        f"<td class='muted'>heard from {worker['age']:.0f} s ago</td></tr>"
    )


def _name(site: str, job: Mapping[str, Any]) -> str:
    task, project = job["task"], job["project"]
    if task is None:
        return _text(str(job["id"])[:12])
    name = f"task {_text(task)}"
    if site and isinstance(task, int) and isinstance(project, int):
        address = _text(f"{site}/projects/{project}/data?task={task}")
        name = f"<a href='{address}'>{name}</a>"
    return f"{name} <span class='muted'>project {_text(project)}</span>"


def _text(value: Any) -> str:
    return escape(str(value), quote=True)


_PAGE = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}"><title>EACPS status</title><style>
body{{font:14px/1.5 system-ui,sans-serif;color:#1f2937;max-width:960px;margin:32px auto;
padding:0 16px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}}
h1{{font-size:20px}}h2{{font-size:15px;margin:24px 0 6px}}
.counts{{display:flex;gap:12px;flex-wrap:wrap}}.count{{border:1px solid #e5e7eb;border-radius:8px;
padding:8px 16px;color:#6b7280;min-width:72px}}
.count b{{display:block;font-size:20px}}.count:not(.alarm) b{{color:#1f2937}}
table{{border-collapse:collapse;width:100%}}
td{{padding:4px 12px 4px 0;border-bottom:1px solid #e5e7eb;
vertical-align:top}}
td:first-child{{white-space:nowrap}}.muted{{color:#6b7280}}.alarm{{color:#b42318}}
a{{color:#2f5fc4;text-decoration:none}}a:hover{{text-decoration:underline}}
.bar{{width:160px;height:8px;border-radius:4px;background:#e5e7eb;margin-top:7px}}
.bar div{{height:8px;border-radius:4px;background:#3b6fd4}}
</style></head><body><h1>EACPS</h1>{{body}}</body></html>"""
