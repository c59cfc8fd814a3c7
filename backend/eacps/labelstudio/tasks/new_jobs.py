"""Makes jobs of tasks."""

from __future__ import annotations

from eacps import log, tracing
from eacps.domain import to_json
from eacps.jobs.contract import Job
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.costs import cost_of
from eacps.labelstudio.tasks.origins import Origin
from eacps.settings import Settings


def new_job(origin: Origin, priority: int, settings: Settings, identity: str = "") -> Job:
    """A job for an origin. Logs and spans of all processes name the request that asked for it."""
    request = log.current_ids().get("request") or log.new_request()
    subject = shown_by(origin.label_studio, origin.task) if origin.task is not None else ""
    cost = cost_of(origin, settings)
    with log.ids(request=request, project=origin.project, task=origin.task):
        return Job(
            identity or origin.job_id,
            to_json(origin),
            priority,
            trace=tracing.carried(),
            subject=subject,
            project="" if origin.project is None else str(origin.project),
            candidates=cost.candidates,
            cost=cost.renders,
        )
