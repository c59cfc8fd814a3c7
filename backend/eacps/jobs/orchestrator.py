"""The orchestrator: takes jobs through preparation, search and delivery, without a GPU."""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dbos import DBOS

from eacps import fingerprints, metrics, runner, tracing
from eacps import log as logs
from eacps.artifacts import ArtifactStore, MissingArtifactError, open_store
from eacps.domain import (
    EditTask,
    Failure,
    SearchResult,
    from_json,
    to_json,
)
from eacps.errors import (
    CancelledError,
    EacpsError,
    RetryLaterError,
    SettingsError,
    first_line,
)
from eacps.jobs import names
from eacps.jobs.adoption import Adoption
from eacps.jobs.batches import BatchDispatcher
from eacps.jobs.beats import ProcessIdentity
from eacps.jobs.contract import Job, TaskHooks
from eacps.jobs.database import Records, exclusive_transaction, search_lock
from eacps.jobs.enqueueing import open_client
from eacps.jobs.large_values import with_large_values
from eacps.jobs.launch import (
    Finishing,
    open_records,
    process_lock,
    process_name,
    register,
    run_until_stopped,
    start_dbos,
)
from eacps.jobs.lifeline import die_with_supervisor
from eacps.jobs.losses import MOST_LOSSES, RESULT_GONE, is_lost, search_again, shown
from eacps.jobs.observing import start_observing
from eacps.jobs.outages import outage, outlasting
from eacps.jobs.periodic import PeriodicWork
from eacps.jobs.queues import Limit
from eacps.jobs.retention import DAY_SECONDS, needed_files, prune, prune_files, prune_notes
from eacps.jobs.wakeups import Wakeups
from eacps.judge_names import judges_named
from eacps.options import short
from eacps.plugins import is_reference
from eacps.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
Json = dict[str, Any]
FEWEST_SEARCHES_AT_ONCE = 4
MOST_SEARCHES_AT_ONCE = 512
SEARCHES_OF_A_DEVICE = 2
JUDGED_BY_SERVERS = 8
"""So many times as many searches run at once where servers judge."""
ASK_FOR_DEVICES_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60
ONE_REQUEST_SECONDS = 7
"""Retry a request that fails only for this task for this long, since it blocks its queue."""
DELIVERIES_SECONDS = 30.0
"""How long a draining orchestrator waits for its deliveries, which may be paused for an hour."""
SEARCH_ATTEMPTS = 3
TRIED_AGAIN = "Delivery is tried again every hour, or at once by `eacps jobs retry`."


def run_orchestrator(settings: Settings, hooks: TaskHooks) -> NoReturn:
    """Run the orchestrator until stopped; never returns."""
    die_with_supervisor()
    name = process_name(settings, "orchestrator")
    me = ProcessIdentity(name, "orchestrator", "", settings.equipment)
    start_observing(settings, "orchestrator")
    with process_lock(settings, me.name):
        records = open_records(settings, connections=8)
        wakeups = Wakeups(records)
        records.describe_equipment(settings.equipment, fingerprints.equipment_words(settings))
        Workflows(settings, hooks, records, open_store(settings), wakeups).register()
        at_once = SearchLimit(settings, records)
        queues: dict[str, Limit] = {
            names.JOBS_QUEUE: at_once,
            # A separate queue, so that interactive jobs do not wait for bulk jobs.
            names.INTERACTIVE_QUEUE: at_once,
            # No limit, because each search belongs to a job, and those are limited.
            names.SEARCH_QUEUE: None,
            names.DELIVERY_QUEUE: names.DELIVERIES_AT_ONCE,
        }
        # A job and its search each hold a thread, which mostly waits.
        threads = 8 * (settings.search_concurrency or MOST_SEARCHES_AT_ONCE) + 64
        start_dbos(settings, me.name, queues, threads, wakeups)
        threading.Thread(
            target=_prune_daily, args=(settings, records), name="retention", daemon=True
        ).start()
        PeriodicWork(settings, hooks, records).start()
        # This private function keeps counting crashes. With the public resume, a batch that kills
        # its worker would be retried for ever.
        run_until_stopped(
            me,
            records,
            settings,
            recover=DBOS._recover_pending_workflows,
            adopt=Adoption(records, settings.stale_after_seconds),
            # Searches are continued elsewhere: what they have rendered is stored.
            finishing=Finishing(names.delivery_workflow(""), DELIVERIES_SECONDS),
            wakeups=wakeups,
        )


class SearchLimit:
    """How many searches an orchestrator runs at once: the setting, or else two for each device of
    its share of the fleet, so that a device never waits for a search to begin or to end. Where
    servers judge, it is more, because most searches then wait for their answers."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._fixed = settings.search_concurrency
        judged = any(each.remote for each in judges_named(settings))
        self._each = SEARCHES_OF_A_DEVICE * (JUDGED_BY_SERVERS if judged else 1)
        self._stale_after = settings.stale_after_seconds
        self._records = records
        self._known = FEWEST_SEARCHES_AT_ONCE
        self._asked = float("-inf")

    def __call__(self) -> int:
        """The limit; asks for the number of devices every few seconds."""
        if self._fixed:
            return self._fixed
        if time.monotonic() - self._asked > ASK_FOR_DEVICES_SECONDS:
            self._asked = time.monotonic()
            roles = self._records.live_roles(self._stale_after)
            share = math.ceil(self._each * roles["worker"] / max(1, roles["orchestrator"]))
            self._known = min(MOST_SEARCHES_AT_ONCE, max(FEWEST_SEARCHES_AT_ONCE, share + 2))
        return self._known


def _prune_daily(settings: Settings, records: Records) -> None:
    while True:
        try:
            jobs = prune(records, settings.retention_days)
            # A day longer than jobs, so that images outlive their job.
            seconds = (settings.retention_days + 1) * DAY_SECONDS
            store = open_store(settings)
            files = prune_files(
                store,
                seconds,
                needed_files(records, seconds),
                keep_shown=settings.keep_shown_images,
            )
            files += prune_notes(settings.data_dir / "uploads", store, seconds)
            log.info("retention: %d jobs and %d files removed", jobs, files)
        except Exception:
            log.exception("retention failed; retrying tomorrow")
        time.sleep(DAY_SECONDS)


def pauses(give_up_after_seconds: float) -> Iterator[int]:
    """The pauses before retries in seconds: 1, 2, 4 ... 60, up to a total."""
    waited, pause = 0, 1
    while waited < give_up_after_seconds:
        yield pause
        waited += pause
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def failure_of(error: Exception) -> Failure:
    """The failure that users see for an exception; an outage, which is none, is raised again."""
    if outage(error):
        raise error
    if isinstance(error, EacpsError):
        return Failure(error.code, str(error))
    log.error("unexpected error", exc_info=error)
    # SQLAlchemy's messages hold SQL, and drivers' hold hosts.
    of_database = type(error).__module__.startswith(("sqlalchemy", "psycopg", "sqlite3"))
    reason = type(error).__name__ if of_database else first_line(error)
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in where)
    return Failure("internal_error", f"{reason}{place}. The orchestrator's log has the details.")


def require_own_code(task: EditTask, settings: Settings) -> None:
    """Raise SettingsError if a stored task's strategy is a file or module that is not in the
    settings, because a database row must not decide which code runs."""
    name = task.plan.strategy
    if is_reference(name) and name != settings.strategy:
        raise SettingsError(
            f"This search was planned with the strategy {short(name)}, which EACPS_STRATEGY no "
            "longer names.",
            hint="Run `eacps jobs retry` for its job to search with the current settings.",
        )


def _step(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run a step. It waits for an outage to end, and is then repeated."""
    return DBOS.run_step({"name": name}, outlasting(function), *arguments)


@dataclass
class Workflows:
    """The workflows of the orchestrator. Outside of steps, their code is deterministic."""

    settings: Settings
    hooks: TaskHooks
    records: Records
    store: ArtifactStore
    wakeups: Wakeups

    def register(self) -> None:
        """Register the workflows with DBOS, without a limit on crashes."""
        for name, function in (
            (names.EDIT_TASK, self.edit_task),
            (names.SEARCH, self.search),
            (names.DELIVERY, self.deliver),
        ):
            register(name, function, crashes=None)

    def edit_task(self, content: Json) -> Json:
        """Workflow of a job: prepare it, run its search, enqueue the delivery of its outcome."""
        job = from_json(Job, content)
        with tracing.continued(job.trace), logs.ids(job=job.id):
            return self._edit_task(job, content)

    def _edit_task(self, job: Job, content: Json) -> Json:
        key = None
        try:
            for _ in range(1 + MOST_LOSSES):
                prepared = self._with_retries("prepare", self._prepare, job)
                failure = prepared.get("failure")
                if failure is not None:
                    break
                task = from_json(EditTask, prepared["task"])
                key = task.key
                with logs.ids(key=key):
                    failure = self._searched(job, task)
                # If the task's own images were lost meanwhile, preparing it stores them again.
                if not is_lost(failure):
                    break
        except Exception as error:
            failure = to_json(failure_of(error))
        options = names.enqueue_options(
            names.DELIVERY, names.delivery_workflow(job.id), job.priority
        )
        delivery = {"job": content, "key": key, "failure": failure}
        DBOS.enqueue_workflow_with_options(options, delivery)
        self.wakeups.wake_queue(names.DELIVERY_QUEUE)
        return {"failure": failure}

    def search(self, content: Json) -> Json:
        """Workflow of a search, whose batches run on the workers."""
        task = from_json(EditTask, content["task"])
        with tracing.continued(content.get("trace", {})), logs.ids(key=task.key):
            try:
                require_own_code(task, self.settings)
                dispatcher = BatchDispatcher(task, content["priority"], self.records, self.wakeups)
                with tracing.span("search"), metrics.SEARCH_SECONDS.time():
                    result = runner.search(
                        task,
                        dispatcher.run_batches,
                        on_expected=dispatcher.expect,
                        potential_range=runner.potential_range(self.settings, task),
                    )
            except Exception as error:
                failure = failure_of(error)
                metrics.SEARCHES.labels("failed").inc()
                log.info("search failed: %s", failure.message)
                return {"failure": to_json(failure)}
            # Some workers may have had the task's images in memory when these were lost.
            failures = [to_json(c.failure) for c in result.candidates if c.failure]
            lost = next(filter(is_lost, failures), None)
            metrics.SEARCHES.labels("failed" if lost else "done").inc()
            log.info("search ended: %d of %d candidates are usable",
                     len(result.usable), len(result.candidates))  # fmt: skip
            return {"failure": lost} if lost else {"result": to_json(result)}

    def deliver(self, content: Json) -> Json:
        """Workflow of a delivery: deliver the outcome to the job's origin, with retries."""
        job = from_json(Job, content["job"])
        with tracing.continued(job.trace), logs.ids(job=job.id, key=content["key"]):
            answer = self._with_retries("deliver", self._deliver, content)
            failure = answer.get("failure")
            if failure is None:
                return {"failure": None}
            if content["failure"] is None and is_lost(failure):
                log.warning("%s", failure["message"])
                if outlasting(search_again)(self.records, from_json(Job, content["job"])):
                    metrics.DELIVERIES.labels("lost").inc()
                    return {"failure": None}
            metrics.DELIVERIES.labels("failed").inc()
            log.warning("not delivered: %s", failure["message"])
            temporary = "down" in answer
            if temporary:
                failure = {**failure, "message": f"{failure['message']} {TRIED_AGAIN}"}
            if content["failure"] is None:
                self._with_retries("report", self._report, {**content, "failure": failure})
            # deliver_again looks for this mark.
            return {"failure": failure, "temporary": temporary}

    def _prepare(self, job: Job) -> Json:
        with tracing.span("prepare"):
            task = self.hooks.prepare(with_large_values(job, self.store).origin)
        log.info("prepared for the search %s", task.key)
        settings = self.settings.changed(task.settings) if task.settings else self.settings
        made_with = replace(
            task,
            equipment=self.settings.equipment,
            rendered=fingerprints.rendered(settings, task.route),
            judged=fingerprints.judged(settings),
        )
        return {"task": to_json(made_with)}

    def _searched(self, job: Job, task: EditTask) -> Json | None:
        for _ in range(SEARCH_ATTEMPTS):
            _step("begin search", self._begin_search, task, job.priority, DBOS.workflow_id)
            identity = names.search_workflow(task.key)
            ended = _step("await search", self._await_search, identity, DBOS.workflow_id)
            # If another job started this search and was cancelled, start it again.
            if ended["status"] not in ("CANCELLED", "GONE"):
                failure: Json | None = ended["failure"]
                return failure
        raise CancelledError("The search was cancelled repeatedly.", hint="Retry the job.")

    def _begin_search(self, task: EditTask, priority: int, own: str) -> None:
        """Enqueue the search that the task needs, unless its result is there or on its way."""
        name = names.search_workflow(task.key)
        self.records.set_event(own, names.KEY_EVENT, task.key)
        row = self.records.rows([name]).get(name)
        lost = set()
        if row is not None and row.good:
            result = from_json(SearchResult, row.output["result"])
            lost = {name for name in shown(result) if not self._used_again(name)}
        # A lock of this search, so that it does not wait for those who submit many jobs.
        with exclusive_transaction(self.records.engine, search_lock(task.key)) as connection:
            self.records.delete_search(task.key, connection, lost=lost)
            options = names.options(names.SEARCH, names.SEARCH_QUEUE, name, priority)
            content = {"task": to_json(task), "priority": priority, "trace": tracing.carried()}
            open_client(self.records).enqueue_in_transaction(connection, options, content)
        self.wakeups.wake_queue(names.SEARCH_QUEUE)

    def _used_again(self, name: str) -> bool:
        """Whether a picture is intact; retention counts from now."""
        try:
            self.store.put(self.store.get(name), name.rsplit(".", 1)[1])
        except MissingArtifactError:
            return False
        return True

    def _await_search(self, identity: str, own: str) -> Json:
        status = self.wakeups.wait_for_end(identity, own)
        if status in ("CANCELLED", "GONE"):
            return {"status": status}
        row = self.records.rows([identity]).get(identity)
        output = (row.output if row else None) or {}
        failure = output.get("failure")
        if "result" not in output and failure is None:
            failure = to_json(Failure("internal_error", f"The search ended as {status}."))
        return {"status": status, "failure": failure}

    def _deliver(self, content: Json) -> Json:
        if content["failure"] is not None:
            return self._report(content)
        job = with_large_values(from_json(Job, content["job"]), self.store)
        name = names.search_workflow(content["key"])
        row = self.records.rows([name]).get(name)
        if row is None or not row.good:
            return {"failure": to_json(RESULT_GONE)}
        result = from_json(SearchResult, row.output["result"])
        for picture in shown(result):
            # Not every delivery reads them, but each names them.
            self.store.get(picture)
        with tracing.span("delivery"):
            self.hooks.deliver(job.origin, result)
        metrics.DELIVERIES.labels("delivered").inc()
        log.info("delivered")
        return {}

    def _report(self, content: Json) -> Json:
        """Say where the result was expected why it did not come."""
        job = with_large_values(from_json(Job, content["job"]), self.store, all_of_them=False)
        failure = from_json(Failure, content["failure"])
        with tracing.span("delivery", failure=failure.code):
            self.hooks.deliver_failure(job.origin, failure)
        metrics.DELIVERIES.labels("reported").inc()
        metrics.JOB_FAILURES.labels(failure.code).inc()
        log.info("failed, and the task says why: %s", failure.message)
        return {}

    def _with_retries(self, name: str, attempt: Callable[[Any], Json], argument: Any) -> Json:
        answer = _step(name, _errors_as_values, name, attempt, argument)
        noted = False
        for_all = pauses(self.settings.retention_days * DAY_SECONDS)
        for_this = pauses(ONE_REQUEST_SECONDS)
        while answer.get("down"):
            if not answer.get("only_here"):
                # When such an outage ends, a last failure may look as if it were of this request.
                for_this = pauses(ONE_REQUEST_SECONDS)
            usual = next(for_this if answer.get("only_here") else for_all, None)
            if usual is None:
                break
            pause = max(usual, math.ceil(answer.get("retry_after", 0)))
            DBOS.set_event(names.NOTE_EVENT, f"{answer['down']} Next try in {pause} s.")
            noted = True
            DBOS.sleep(pause)
            answer = _step(name, _errors_as_values, name, attempt, argument)
        if noted:
            DBOS.set_event(names.NOTE_EVENT, "")
        return answer


def _errors_as_values(name: str, attempt: Callable[[Any], Json], argument: Any) -> Json:
    """Call a hook and return errors as values, which stay the same after a restart."""
    try:
        return attempt(argument)
    except RetryLaterError as error:
        log.warning("%s", error)
        metrics.RETRIES.labels(name).inc()
        return {
            "down": str(error),
            "only_here": error.only_here,
            "retry_after": error.retry_after,
            "failure": to_json(failure_of(error)),
        }
    except Exception as error:
        return {"failure": to_json(failure_of(error))}
