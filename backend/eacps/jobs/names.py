"""Names in the jobs database. Changing one strands the work that is stored under it."""

from __future__ import annotations

APPLICATION = "eacps"
VERSION = "1"
"""Bump only when the order of a workflow's steps changes: older work then waits for older code."""

POLL_SECONDS = 0.2
DEVICE_POLL_SECONDS = 0.05
"""Shorter where a device would idle: between two batches, and between two rounds."""
DELIVERIES_AT_ONCE = 8
CRASHES_BEFORE_GIVING_UP = 3

EDIT_TASK = "edit_task"
SEARCH = "search"
BATCH = "batch"
DELIVERY = "delivery"

JOBS_QUEUE = "jobs"
INTERACTIVE_QUEUE = "jobs_interactive"
SEARCH_QUEUE = "search"
DEVICE_QUEUE = "device"
DELIVERY_QUEUE = "delivery"

KEY_EVENT = "key"
NOTE_EVENT = "note"
PROGRESS_EVENT = "progress"

QUEUED = ("ENQUEUED", "DELAYED")
ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
DEAD = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


def job_workflow(job: str) -> str:
    """The workflow of a job."""
    return f"job:{job}"


def job_of(workflow: str) -> str:
    """The job of a workflow."""
    return workflow.removeprefix("job:")


def delivery_workflow(job: str) -> str:
    """The workflow that delivers a job's outcome."""
    return f"delivery:{job}"


def search_workflow(key: str) -> str:
    """The one workflow that searches for a key, however many jobs wait for it."""
    return f"search:{key}"


def batch_workflow(key: str, content: str) -> str:
    """A batch of trials; named by content, so that a retry finds what was already rendered."""
    return f"batch:{key}:{content}"
