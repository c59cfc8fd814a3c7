"""The logic of /predict and /webhook: enqueue jobs, and return the results that exist."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from eacps.artifacts import open_signer
from eacps.domain import Failure, SearchResult, to_json
from eacps.errors import FAULTS_OF_TASKS, EacpsError, TaskError
from eacps.jobs.contract import BATCH_PRIORITY, INTERACTIVE_PRIORITY
from eacps.labelstudio import cards
from eacps.labelstudio.client import open_client
from eacps.labelstudio.finishing import finish_ranked, ranked_previews
from eacps.labelstudio.label_config import hides_unnamed_cards
from eacps.labelstudio.panel.grants import Grants, needs_one
from eacps.labelstudio.tasks.extra_params import ExtraParams
from eacps.labelstudio.tasks.origins import (
    INSTRUCTION,
    Origin,
    has_result,
    new_job,
    origin_of,
    project_number,
    project_version,
)
from eacps.labelstudio.tasks.regions import mapping, sequence, typed_text
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.contract import Job, JobQueue, JobStatus

log = logging.getLogger(__name__)

PART = 1000
"""So many tasks are read and enqueued at once, whatever the size of the request."""
WAITING_AT_ONCE = 8
"""So many requests may wait for results. Others are answered at once, so that threads are left."""
JUST_DELIVERED_SECONDS = 5.0
RETRY_FAULTS_SECONDS = 86_400.0
"""Label Studio asks for failed tasks whenever a list of tasks is opened."""
MAX_REPEATS = 20


_T = TypeVar("_T")
_waiting = threading.BoundedSemaphore(WAITING_AT_ONCE)
_givers = futures.ThreadPoolExecutor(2, thread_name_prefix="panel")


@dataclass
class _Asked:
    """A task of a request with its origin, its job and its answer."""

    task: Mapping[str, Any]
    origin: Origin
    job_id: str
    label_config: Any = None
    answer: dict[str, Any] | None = None


def predict_tasks(
    tasks: Any,
    label_config: Any,
    project: Any,
    *,
    context: Any,
    settings: Settings,
    client: JobQueue,
) -> list[dict[str, Any]]:
    """Return a prediction, or `{}` for "not yet", per task in order. Never raises.

    For tasks that do not come from Label Studio, wait for the search and return a prediction with
    all images' URLs, or `{"error": ...}`.
    """
    items = sequence(tasks)
    answers: list[dict[str, Any]] = []
    asked: dict[int, _Asked] = {}
    unreadable = _Unreadable("predict request")
    extra = ExtraParams(settings, client)
    for index, task in enumerate(items):
        try:
            asked[index] = _read(task, label_config, project, context, settings, extra)
            answers.append({})
        except Exception as error:
            unreadable.add(error)
            answers.append(_refused(error, settings))
    unreadable.tell(len(items))
    try:
        _answer_all(list(asked.values()), settings, client)
    except Exception:
        log.exception("predict could not reach the queue")
        _answer_unreachable(list(asked.values()))
    for index, entry in asked.items():
        answers[index] = entry.answer or {}
    return answers


def tasks_created(payload: Any, settings: Settings, client: JobQueue) -> int:
    """Enqueue the tasks of a TASKS_CREATED webhook; returns how many are new."""
    content = mapping(payload)
    project = mapping(content.get("project"))
    items = sequence(content.get("tasks"))
    unreadable = _Unreadable("webhook")
    extra = ExtraParams(settings, client)
    count = 0
    for part in _parts(items):
        jobs = []
        for task in part:
            try:
                config = project.get("label_config")
                asked = _read(task, config, dict(project), None, settings, extra)
            except Exception as error:
                unreadable.add(error)
                continue
            held = cards.prediction(asked.task.get("data"), asked.origin.model_version)
            if held is None and not has_result(asked.task, asked.origin):
                jobs.append(_job(asked, BATCH_PRIORITY, settings))
        count += client.submit_many(jobs) if jobs else 0
    unreadable.tell(len(items))
    return count


def annotated(payload: Any, settings: Settings, client: JobQueue) -> int:
    """Enqueue what the submitted annotation of a webhook asks for: a search, if an instruction was
    typed into it and the task has no result for that, and the rest of the previews that it ranks.
    Returns how many jobs are new."""
    content = mapping(payload)
    annotation, project = mapping(content.get("annotation")), mapping(content.get("project"))
    task = {**mapping(content.get("task")), "annotations": [annotation]}
    if not is_task(task):
        return 0
    typed = bool(typed_text(task, None, INSTRUCTION))
    if not typed and not ranked_previews(task["data"], annotation):
        return 0
    config, extra = project.get("label_config"), ExtraParams(settings, client)
    try:
        asked = _read(task, config, dict(project), None, settings, extra)
    except Exception as error:
        log.warning("an annotation in a webhook cannot be read: %s", str(error)[:300])
        return 0
    if not asked.origin.delivered:
        return 0
    count = finish_ranked(task["data"], annotation, asked.origin, settings, client)
    if typed and not has_result(task, asked.origin):
        count += int(client.submit(_job(asked, INTERACTIVE_PRIORITY, settings)))
    return count


def project_version_of(
    project: Any, label_config: Any, settings: Settings, client: JobQueue
) -> str:
    """The model version of a project's results."""
    try:
        extra = ExtraParams(settings, client).of(project_number({}, project))
    except Exception:
        log.exception("the extra parameters of a project cannot be read")
        extra = None
    return project_version(label_config, extra, settings)


def is_task(value: Any) -> bool:
    """Whether this has the form of a task: an object with an object `data`."""
    return isinstance(value, dict) and isinstance(value.get("data"), dict)


@dataclass
class _Unreadable:
    """What cannot be read, as one log line, because the sender decides how many tasks there are."""

    where: str
    count: int = 0
    first: str = ""

    def add(self, error: Exception) -> None:
        self.first = self.first or str(error)[:300]
        self.count += 1

    def tell(self, tasks: int) -> None:
        if self.count:
            log.warning(
                "%d of %d tasks in a %s cannot be read: %s",
                self.count,
                tasks,
                self.where,
                self.first,
            )


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + PART] for start in range(0, len(items), PART))


def _read(
    task: Any,
    label_config: Any,
    project: Any,
    context: Any,
    settings: Settings,
    extra: ExtraParams,
) -> _Asked:
    if not is_task(task):
        raise TaskError(
            "A task must be an object with an object `data`.",
            hint="Send tasks as Label Studio exports them.",
        )
    origin = origin_of(
        task,
        settings,
        label_config=label_config,
        project=project,
        context=context,
        extra_params=extra.of(project_number(task, project)),
    )
    return _Asked(task, origin, origin.job_id, label_config)


def _answer_all(asked: list[_Asked], settings: Settings, client: JobQueue) -> None:
    started = time.monotonic()
    for entry in asked:
        if entry.origin.delivered:
            entry.answer = _existing_prediction(entry, client)
    waiting = [entry for entry in asked if entry.answer is None]
    given = _give_panel(waiting, settings)
    priority = INTERACTIVE_PRIORITY if len(waiting) == 1 else BATCH_PRIORITY
    for part in _parts(waiting):
        _enqueue(part, priority, settings, client)
    if _waiting.acquire(blocking=False):
        try:
            _wait(waiting, started, settings, client)
            if given is not None:
                # Label Studio reloads the task after our answer, and then shows the panel.
                left = started + settings.predict_wait_seconds - time.monotonic()
                futures.wait([given], max(0.0, left))
        finally:
            _waiting.release()
    else:
        _wait(waiting, float("-inf"), settings, client)


def _give_panel(waiting: Sequence[_Asked], settings: Settings) -> futures.Future[None] | None:
    """Let somebody who has opened a task that waits see its panel."""
    if len(waiting) != 1 or not waiting[0].origin.delivered:
        return None
    [entry] = waiting
    if not needs_one(entry.task.get("data"), settings):
        return None
    grants = Grants(settings, open_client(settings))
    # Elsewhere, because a Label Studio that does one thing at a time would answer only after us.
    return _givers.submit(grants.give_quietly, entry.origin)


def _existing_prediction(entry: _Asked, client: JobQueue) -> dict[str, Any] | None:
    """The prediction in the task. A finished task keeps it even if the settings change, until its
    data changes or a new search is requested."""
    if not has_result(entry.task, entry.origin):
        return None
    hides = hides_unnamed_cards(entry.label_config)
    found = cards.prediction(entry.task.get("data"), names_all=hides)
    if found is None:
        return None
    there = map(mapping, sequence(entry.task.get("predictions")))
    if any(row.get("model_version") == found["model_version"] for row in there):
        # Label Studio requests it because our version has changed, but it has this prediction.
        return {}
    status = client.status(entry.job_id)
    # The delivery posts the prediction; returning it as well would store it twice.
    return {} if status and _being_delivered(status) else found


def _being_delivered(status: JobStatus) -> bool:
    return status.state == "delivering" or (
        status.state == "done" and _age(status) < JUST_DELIVERED_SECONDS
    )


def _enqueue(
    waiting: Sequence[_Asked], priority: int, settings: Settings, client: JobQueue
) -> None:
    jobs = [_job(entry, priority, settings) for entry in waiting]
    if not jobs or client.submit_many(jobs) == len({job.id for job in jobs}):
        return
    known = client.statuses([job.id for job in jobs])
    for entry in waiting:
        _restart_if_lost(entry, known.get(entry.job_id), priority, settings, client)


def _restart_if_lost(
    entry: _Asked,
    status: JobStatus | None,
    priority: int,
    settings: Settings,
    client: JobQueue,
) -> None:
    """Restart an ended job if its task still has no result."""
    for repeat in range(2, MAX_REPEATS):
        if status is None:
            client.submit(_job(entry, priority, settings))
            return
        if status.state == "failed":
            if _age(status) >= _pause_after(status, settings):
                client.retry(entry.job_id)
            return
        lost = status.state == "done" and not _being_delivered(status)
        if not (lost and entry.origin.delivered):
            return
        # The result was delivered, but the task no longer has it: search and deliver again.
        entry.job_id = f"{entry.origin.job_id}-{repeat}"
        status = client.status(entry.job_id)


def _pause_after(status: JobStatus, settings: Settings) -> float:
    """After how many seconds a failed task is worth another attempt, if somebody asks for it."""
    its_own_fault = status.failure is not None and status.failure.code in FAULTS_OF_TASKS
    pause = settings.retry_failed_after_seconds
    # Not never: a picture may have been cut off on its way, or replaced since.
    return max(pause, RETRY_FAULTS_SECONDS) if its_own_fault else pause


def _wait(waiting: Sequence[_Asked], started: float, settings: Settings, client: JobQueue) -> None:
    for entry in waiting:
        limit = settings.predict_wait_seconds
        if not entry.origin.delivered and not settings.label_studio_url:
            limit = settings.predict_wait_without_label_studio
        remaining = max(0.0, started + limit - time.monotonic())
        if entry.origin.delivered and remaining == 0:
            continue
        outcome = client.result(entry.job_id, remaining)
        if entry.origin.delivered:
            _wait_for_delivery(entry, started + limit, client)
        else:
            entry.answer = _full_answer(entry, outcome, settings, client)


def _wait_for_delivery(entry: _Asked, deadline: float, client: JobQueue) -> None:
    # Label Studio reloads the task after our response, and shows results delivered by then.
    while time.monotonic() < deadline:
        status = client.status(entry.job_id)
        if status is None or status.state != "delivering":
            return
        time.sleep(0.1)


def _full_answer(
    entry: _Asked, outcome: SearchResult | Failure | None, settings: Settings, client: JobQueue
) -> dict[str, Any]:
    if outcome is None:
        return _unfinished(entry, client.status(entry.job_id))
    if isinstance(outcome, Failure):
        return _error(outcome.code, outcome.message, job=entry.job_id)
    task = replace(outcome.task, route_reason=entry.origin.route_reason)
    version = entry.origin.model_version
    answer = replace(outcome, task=task)
    return full_prediction(answer, settings, job_id=entry.job_id, model_version=version)


def full_prediction(
    result: SearchResult, settings: Settings, *, job_id: str, model_version: str = ""
) -> dict[str, Any]:
    """A complete prediction, for clients without a Label Studio task."""
    url_of = open_signer(settings).url
    version = model_version or settings.model_version
    data = cards.enrichment(
        result,
        url_of,
        job_id=job_id,
        model_version=version,
        references=[url_of(name) for name in result.task.references],
    )
    id_of = cards.ids_in(None, result)
    candidates = [
        to_json(candidate)
        | {
            "id": id_of(candidate.id),
            "lineage": candidate.trial.lineage,
            "image_url": url_of(candidate.image) if candidate.image else None,
            "thumbnail_url": url_of(candidate.thumbnail) if candidate.thumbnail else None,
        }
        for candidate in result.candidates
    ]
    return {
        **(cards.prediction(data, version) or {}),
        "image_url": candidates[0]["image_url"],
        "route": result.task.route,
        "route_reason": result.task.route_reason,
        "nfe": result.nfe,
        "seconds": result.seconds,
        "editor": result.editor,
        "candidates": candidates,
        "data": data,
        "job": job_id,
    }


def _unfinished(entry: _Asked, status: JobStatus | None) -> dict[str, Any]:
    progress = ""
    if status and status.expected:
        progress = f" ({status.finished} of {status.expected} candidates)"
    return _error(
        "not_finished",
        f"The search is still running{progress}. Send the same request again to get its result.",
        job=entry.job_id,
    )


def _refused(error: Exception, settings: Settings) -> dict[str, Any]:
    if settings.label_studio_url:
        return {}
    if isinstance(error, EacpsError):
        return _error(error.code, str(error))
    return _error("bad_task", "The task cannot be read. Send it as Label Studio exports it.")


def _answer_unreachable(asked: Sequence[_Asked]) -> None:
    for entry in asked:
        if entry.answer is None and not entry.origin.delivered:
            entry.answer = _error(
                "queue_unreachable",
                "The queue cannot be reached. Check EACPS_DATABASE_URL and try again.",
            )


def _error(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}, **more}


def _job(entry: _Asked, priority: int, settings: Settings) -> Job:
    return new_job(entry.origin, priority, entry.job_id, settings=settings)


def _age(status: JobStatus) -> float:
    return time.time() - status.updated
