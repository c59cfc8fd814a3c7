"""What the status page says of a job, and when it will begin or end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eacps.jobs.contract import can_only_fail_again
from eacps.labelstudio.tasks.regions import mapping, text

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue, JobStatus

HOUR = 3600.0
LONG_QUEUE = 20
ROUTES = {"edit": "edit", "face_swap": "face swap"}
UNFINISHED = ("queued", "running", "delivering")


def described(
    found: Sequence[JobStatus],
    jobs: JobQueue,
    titles: Callable[[Sequence[int]], Mapping[int, str]],
    label_studio: str,
) -> list[dict[str, Any]]:
    """What the page says of jobs."""
    queued = [status.id for status in found if status.state == "queued"]
    places = jobs.places(queued) if queued else {}
    per_second = jobs.speed() if queued else 0.0
    origins = [mapping(status.origin) for status in found]
    numbers = {_number(origin.get("project")) for origin in origins} - {None}
    known = titles(sorted(number for number in numbers if number is not None))
    return [
        _job(status, places.get(status.id), per_second, known, label_studio) for status in found
    ]


def _job(
    status: JobStatus,
    place: int | None,
    per_second: float,
    titles: Mapping[int, str],
    label_studio: str,
) -> dict[str, Any]:
    origin = mapping(status.origin)
    task, project = _number(origin.get("task")), _number(origin.get("project"))
    failure = status.failure
    address = ""
    if label_studio and task is not None and project is not None:
        address = f"{label_studio}/projects/{project}/data?task={task}"
    hopeless = can_only_fail_again(status)
    return {
        "id": status.id,
        "state": status.state,
        "task": task,
        "project": project,
        "project_title": titles.get(project, "") if project is not None else "",
        "url": address,
        "route": ROUTES.get(text(origin.get("route")), ""),
        "route_reason": text(origin.get("route_reason")),
        "asked_for": text(mapping(origin.get("steer")).get("action")),
        "finished": status.finished,
        "expected": status.expected,
        "best": status.best,
        "note": status.note,
        "failure": {"code": failure.code, "message": failure.message} if failure else None,
        "created": status.created,
        "updated": status.updated,
        "place": place,
        "estimate": _estimate(status, place, per_second),
        "fails_again": hopeless,
        "can_cancel": status.state in UNFINISHED,
        "can_retry": status.state in ("failed", "cancelled"),
    }


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _estimate(status: JobStatus, place: int | None, per_second: float) -> str:
    """When the job begins or ends, in words; empty if that is not known."""
    if status.state == "queued" and place and per_second:
        return f"begins in about {duration(place / per_second)}"
    left = status.expected - status.finished
    if status.state == "running" and status.began and status.finished > 0 and left > 0:
        passed = max(0.0, time.time() - status.began)
        return f"about {duration(passed / status.finished * left)} left"
    return ""


def backlog(queued: int, ended: int) -> str:
    """A sentence about the jobs that wait, if there are many, from how many ended in an hour."""
    if queued < LONG_QUEUE:
        return ""
    if not ended:
        return f"{queued:,} jobs wait, and none ended within the last hour."
    return (
        f"{queued:,} jobs wait. {ended:,} ended within the last hour: at that speed, the last one "
        f"begins in about {duration(HOUR * queued / ended)}. What somebody waits for in Label "
        "Studio goes first."
    )


def duration(seconds: float) -> str:
    """A time span in coarse words, which rarely change."""
    hours = seconds / HOUR
    for unit, length in (("day", 24.0), ("hour", 1.0)):
        if hours >= 2 * length:
            return f"{round(hours / length)} {unit}s"
    minutes = max(1, round(60 * hours))
    if minutes > 20:
        minutes = 5 * round(minutes / 5)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def age(seconds: float) -> str:
    """A time span in few characters, such as `5 min`; status.js says the same."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
