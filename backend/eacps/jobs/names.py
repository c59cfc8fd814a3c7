"""Names in the jobs database. Changing one strands the work stored under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eacps.jobs.contract import INTERACTIVE_PRIORITY

if TYPE_CHECKING:
    from dbos import EnqueueOptions

APPLICATION = "eacps"
VERSION = "3"
"""Increment when the steps of a workflow change; adoption.py restarts older work. 0.1 had 1."""

FIRST_VERSION = "1"
"""The version of 0.1, whose processes do not store theirs."""
FIRST_RELEASE = "0.1"

POLL_SECONDS = 0.2
DEVICE_POLL_SECONDS = 0.05
"""Shorter, because devices idle between batches and between rounds."""
DELIVERIES_AT_ONCE = 8
CRASHES_BEFORE_GIVING_UP = 3
MOST_PARDONS = 20

EDIT_TASK = "edit_task"
SEARCH = "search"
BATCH = "batch"
DELIVERY = "delivery"

JOBS_QUEUE = "jobs"
INTERACTIVE_QUEUE = "jobs_interactive"
WAITING_QUEUE = "jobs_waiting"
"""Jobs over their project's quota. Nobody serves it; shares.py moves them on another day."""
SEARCH_QUEUE = "search"
DEVICE_QUEUE = "device"
"""The prefix of queue names; the equipment that a worker must have follows."""
DELIVERY_QUEUE = "delivery"

KEY_EVENT = "key"
NOTE_EVENT = "note"
PROGRESS_EVENT = "progress"
PARDONS_EVENT = "pardons"
"""How often a batch let go of its device, so that a crash would be the fault of another."""

DRAIN = "drain"
"""What a process is asked for in the list of workers."""

QUEUED = ("ENQUEUED", "DELAYED")
ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
DEAD = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


def device_queue(equipment: str) -> str:
    """The queue of batches for workers with this equipment."""
    return f"{DEVICE_QUEUE}:{equipment}"


def options(workflow: str, queue: str, identity: str, priority: int) -> EnqueueOptions:
    """The options with which a workflow is enqueued."""
    return {
        "workflow_name": workflow,
        "queue_name": queue,
        "workflow_id": identity,
        "app_version": VERSION,
        "priority": max(1, priority),
        "application_name": APPLICATION,
    }


def enqueue_options(workflow: str, identity: str, priority: int) -> EnqueueOptions:
    """The options with which a job or a delivery is enqueued."""
    queue = DELIVERY_QUEUE if workflow == DELIVERY else queue_of(priority)
    return options(workflow, queue, identity, priority)


def queue_of(priority: int) -> str:
    """The queue of a job with this priority."""
    return INTERACTIVE_QUEUE if priority <= INTERACTIVE_PRIORITY else JOBS_QUEUE


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
    """The workflow of a key's search, which all jobs with that key share."""
    return f"search:{key}"


def key_of(workflow: str) -> str:
    """The key of a search or batch workflow."""
    return workflow.split(":")[1]


def batch_workflow(key: str, content: str) -> str:
    """The workflow of a batch, named by its content so that a retry finds finished batches."""
    return f"batch:{key}:{content}"
