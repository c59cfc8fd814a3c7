"""What goes on with a task's jobs, from the jobs database alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from eacps.domain import digest
from eacps.errors import TaskError
from eacps.jobs.contract import MOST_AHEAD, JobState
from eacps.labelstudio.panel.capability import Capability
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.origins import read_origin

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue, JobStatus

UNFINISHED: Final[tuple[JobState, ...]] = ("queued", "running", "delivering")
_SHOWN: Final = 20


def jobs_of(jobs: JobQueue, label_studio: str, capability: Capability) -> Sequence[JobStatus]:
    """The newest jobs of a task, newest first."""
    return jobs.about(shown_by(label_studio, capability.task), _SHOWN)


def progress(jobs: JobQueue, statuses: Sequence[JobStatus]) -> dict[str, Any]:
    """The state of a task's jobs. `revision` changes when the task's content should be read
    again."""
    return {
        "revision": digest([_what_changes(status) for status in statuses]),
        "running": any(status.state in UNFINISHED for status in statuses),
        "jobs": [_job(jobs, status) for status in statuses],
    }


def _what_changes(status: JobStatus) -> list[Any]:
    ended = status.state not in UNFINISHED
    return [status.id, status.state, status.finished, status.updated if ended else None]


def _job(jobs: JobQueue, status: JobStatus) -> dict[str, Any]:
    ahead = jobs.ahead(status) if status.state in UNFINISHED else None
    failure = status.failure
    return {
        "id": status.id,
        "key": status.key,
        "state": status.state,
        "stage": _stage(status, ahead),
        "ahead": ahead,
        "finished": status.finished,
        "expected": status.expected,
        "best": status.best,
        "note": status.note,
        "failure": {"code": failure.code, "message": failure.message} if failure else None,
        "asked": _asked(status),
        "created": status.created,
        "updated": status.updated,
    }


def _asked(status: JobStatus) -> str:
    """What a person asked for, in words; empty for the task's own search."""
    try:
        steer = read_origin(status.origin).steer if status.origin.get("steer") else None
    except TaskError:
        return "something that cannot be read"
    return steer.in_words if steer else ""


def _stage(status: JobStatus, ahead: int | None) -> str:
    """What happens now, in words."""
    if status.state == "queued":
        return f"In the queue{_behind(ahead)}."
    if status.state == "running":
        return _stage_of_search(status, ahead)
    return {
        "delivering": "The result is being written into the task.",
        "done": "Finished.",
        "failed": "Failed.",
        "cancelled": "Cancelled.",
    }[status.state]


def _stage_of_search(status: JobStatus, ahead: int | None) -> str:
    if status.key is None:
        return "The task's pictures are being read."
    if ahead is not None:
        return f"The search waits for its turn{_behind(ahead)}."
    if not status.finished:
        return "The first candidates are being made."
    return f"{status.finished} of {max(status.expected, status.finished)} candidates are made."


def _behind(ahead: int | None) -> str:
    if ahead is None:
        return ""
    if ahead == 0:
        return ": it is next"
    if ahead >= MOST_AHEAD:
        return f", behind more than {MOST_AHEAD:,} others"
    return f", behind {ahead} other{'s' if ahead > 1 else ''}"
