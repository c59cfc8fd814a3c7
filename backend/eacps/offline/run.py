"""`eacps run`: durable search without Label Studio, from files to a folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import TextColumn

from eacps.artifacts import MissingArtifactError, open_store
from eacps.domain import SearchResult, digest, to_json
from eacps.errors import EacpsError, SettingsError
from eacps.files import file_hash
from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job, JobState, JobStatus
from eacps.jobs.lifeline import PARENT_VARIABLE
from eacps.jobs.supervisor import RefusedError
from eacps.labelstudio.tasks.origins import Origin, origin_of
from eacps.offline.database import readable_database
from eacps.offline.deliveries import Deliveries, open_deliveries
from eacps.offline.hooks import FileHooks, places_of
from eacps.offline.naming import has_report, settled
from eacps.offline.output import (
    DATA_FOLDER,
    TREES,
    InTheWayError,
    OutputFolder,
    own_report,
    printable,
)
from eacps.offline.progress import progress_bar
from eacps.offline.tasks import LOCAL, OfflineTask
from eacps.runner.judging import MISSING
from eacps.runner.loop import NOT_JUDGED
from eacps.settings import Settings

ENDED = ("done", "failed", "cancelled")
UNFINISHED: tuple[JobState, ...] = ("queued", "running", "delivering")
MOST_JOBS = 1_000_000
POLL_SECONDS = 0.3
LEAST_FREE_BYTES = 100_000
OnEnded = Callable[[Path, str], None]
REFUSED = f"Error ({RefusedError.code})"


def run_offline(
    settings: Settings,
    tasks: Sequence[OfflineTask],
    folder: Path,
    progress: Console,
    out: Console,
    *,
    variables: Mapping[str, str] = MappingProxyType({}),
    on_ended: OnEnded | None = None,
) -> int:
    """Search all tasks, showing progress; returns how many failed. Safe to repeat.

    `variables` are environment variables that give workers these settings. `on_ended` is called
    once per task when its files are written or it has failed.
    """
    folder = folder.resolve()
    local = at_home(settings, folder)
    damaged = f"If it is damaged, delete {local.data_dir} and run this again: finished tasks stay."
    with folder_lock(folder), readable_database(local, damaged):
        output = OutputFolder(folder, local.data_dir)
        output.sweep()
        named = settled(folder, tasks, partial(has_report, settings, folder))
        jobs = [_job(local, task) for task in named]
        blocked = _blocked(output, folder, jobs, with_trees=on_ended is not None)
        free = [job for job in jobs if job.id not in blocked]
        client = JobClient(local)
        notifier = _OutcomeNotifier(folder, free, on_ended)
        try:
            _cancel_superseded(client, free)
            unwritten = [job for job in free if not _is_written(folder, job)]
            waiting = _submit(client, unwritten, FileHooks(local, folder, open_store(local)))
            if len(waiting) < len(free):
                kept = len(free) - len(waiting)
                progress.print(f"Kept {kept} of {len(jobs)} tasks that are already finished.")
            notifier.tell({job.id for job in free} - {job.id for job in waiting})
            if waiting:
                with (
                    open_deliveries(local) as deliveries,
                    _workers(local, folder, progress, variables) as process,
                ):
                    watched = _Watched(client, deliveries, waiting, notifier)
                    _watch(watched, process, folder, progress)
            return _report(client, jobs, folder, out, blocked | notifier.problems)
        finally:
            client.close()


class _OutcomeNotifier:
    """Calls `on_ended` once per task, and collects what went wrong there."""

    def __init__(self, folder: Path, jobs: Sequence[Job], on_ended: OnEnded | None) -> None:
        self._folder = folder
        self._untold = {job.id: str(job.origin["name"]) for job in jobs}
        self._on_ended = on_ended
        self.problems: dict[str, str] = {}

    def tell(self, ended: Set[str]) -> None:
        """Report that these jobs have ended; those already reported are ignored."""
        for identity in ended & self._untold.keys():
            name = self._untold.pop(identity)
            if self._on_ended:
                try:
                    self._on_ended(self._folder, name)
                except EacpsError as error:
                    self.problems[identity] = str(error)


def _blocked(
    output: OutputFolder, folder: Path, jobs: Sequence[Job], *, with_trees: bool
) -> dict[str, str]:
    """By job: what lies where its result would be written, in a sentence."""
    found: dict[str, str] = {}
    for job in jobs:
        name, identity = str(job.origin["name"]), job.origin["task_id"]
        places = [] if _is_written(folder, job) else [*places_of(name)]
        places += [f"{TREES}/{name}"] if with_trees else []
        report = own_report(folder, name)
        if report and report.get("id") != identity:
            found[job.id] = (
                f"{folder / name}.json is the result of another task (id {report.get('id')!r}). "
                "Choose another --out or id."
            )
            continue
        try:
            output.require_free(*places)
        except InTheWayError as error:
            found[job.id] = str(error)
    return found


def _cancel_superseded(client: JobClient, jobs: Sequence[Job]) -> None:
    """Cancel jobs that an interrupted run left for the same names: their results would replace
    those that are wanted now."""
    wanted = {job.id for job in jobs}
    names = {job.origin["name"] for job in jobs}
    for state in UNFINISHED:
        for status in client.list(MOST_JOBS, state):
            if status.id not in wanted and status.origin.get("name") in names:
                client.cancel(status.id)


def at_home(settings: Settings, folder: Path) -> Settings:
    """These settings with jobs and artifacts in the folder."""
    own = {"data_dir": folder / DATA_FOLDER, "database_url": "", "artifacts_url": ""}
    return settings.model_copy(update=own)


@contextmanager
def folder_lock(folder: Path, command: str = "eacps run") -> Iterator[None]:
    """Create the folder, and lock it against other commands."""
    try:
        (folder / DATA_FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (folder / DATA_FOLDER / "run.lock").open("w")
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written: {error.strerror}.", hint="Choose another --out."
        ) from None
    with lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"Another `{command}` is running in {folder}.",
                hint="Wait for it, stop it, or choose another --out.",
            ) from None
        yield


def offline_origin(settings: Settings, task: OfflineTask) -> Origin:
    """The origin of a task from a file, without delivery to Label Studio."""
    return replace(origin_of(task.content, settings), label_studio="", task=None)


def input_digest(origin: Origin) -> str:
    """A hash of everything that determines a task's result, including the content of files."""
    files = [_file_digest(value) for _, value in sorted(origin.data.items())]
    return digest([origin.job_id, files])


def _job(settings: Settings, task: OfflineTask) -> Job:
    origin = offline_origin(settings, task)
    identity = f"{input_digest(origin)}-{task.name}"
    content = {
        "origin": to_json(origin),
        "name": task.name,
        "task_id": task.content["id"],
        "job": identity,
    }
    return Job(identity, content)


def _file_digest(value: Any) -> Any:
    """The hash of a file, so that a changed file makes a new job."""
    if isinstance(value, list):
        return [_file_digest(item) for item in value]
    if not (isinstance(value, str) and value.startswith(LOCAL)):
        return ""
    try:
        return file_hash(Path(value.removeprefix(LOCAL)))
    except (OSError, ValueError):  # A path with a NUL in it is a ValueError.
        return ""


def _is_written(folder: Path, job: Job) -> bool:
    name = str(job.origin["name"])
    content = own_report(folder, name) or {}
    good = content.get("job") == job.id and "best" in content
    return good and (folder / name / "best.png").is_file()


def _submit(client: JobClient, jobs: Sequence[Job], hooks: FileHooks) -> list[Job]:
    """Submit jobs and retry failed ones; returns those that are not finished."""
    waiting = []
    for job in jobs:
        status = client.status(job.id)
        if status is None:
            client.submit(job)
        elif status.state in ("failed", "cancelled"):
            client.retry(job.id)
        elif status.state == "done":
            result = client.result(job.id)
            if isinstance(result, SearchResult) and _delivered(hooks, job, result):
                continue
            client.restart(job.id)
        waiting.append(job)
    return waiting


def _delivered(hooks: FileHooks, job: Job, result: SearchResult) -> bool:
    """Write a finished result; False if pictures are lost, which the job then renders again."""
    try:
        hooks.deliver(job.origin, result)
    except MissingArtifactError:
        return False
    return True


@contextmanager
def _workers(
    settings: Settings, folder: Path, progress: Console, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        **variables,
        "EACPS_DATA_DIR": str(settings.data_dir),
        "EACPS_DATABASE_URL": "",
        "EACPS_ARTIFACTS_URL": "",
        "EACPS_DEVICES": ",".join(settings.devices),
        PARENT_VARIABLE: str(os.getpid()),
    }
    command = [sys.executable, "-m", "eacps", "offline-workers", str(folder)]
    with _log(folder).open("wb") as file:
        # A new session, so that Ctrl-C reaches only this process, which stops the workers.
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    except KeyboardInterrupt:
        progress.print("Stopped. Run the same command again to resume.")
        raise
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def _log(folder: Path) -> Path:
    return folder / DATA_FOLDER / "run.log"


@dataclass
class _Watched:
    """The jobs that are waited for."""

    client: JobClient
    deliveries: Deliveries
    jobs: Sequence[Job]
    notifier: _OutcomeNotifier

    def look(self) -> tuple[list[JobStatus], set[str]]:
        """The statuses of the jobs, and which of them have ended and are written."""
        statuses = list(self.client.statuses([job.id for job in self.jobs]).values())
        ended = {status.id for status in statuses if status.state in ENDED}
        ended -= self.deliveries.pending(ended)
        self.notifier.tell(ended)
        return statuses, ended

    def has_worker(self) -> bool:
        """Whether a worker has loaded its models."""
        return any(worker.role == "worker" for worker in self.client.workers())


def _watch(
    watched: _Watched, process: subprocess.Popen[bytes], folder: Path, console: Console
) -> None:
    count = len(watched.jobs)
    with progress_bar(console, TextColumn("{task.fields[detail]}")) as progress:
        row = progress.add_task(f"0/{count} tasks", total=None, detail="loading the models")
        ready = False
        while True:
            statuses, ended = watched.look()
            finished, expected = _candidates(statuses, count)
            # A worker is listed when it has loaded its models.
            ready = ready or finished > 0 or watched.has_worker()
            progress.update(
                row,
                description=f"{len(ended)}/{count} tasks",
                completed=finished if expected else 0,
                total=expected or None,
                detail=_detail(folder, finished, expected, ready),
            )
            if len(ended) == count:
                return
            if process.poll() is not None:
                raise EacpsError(_last_words(folder), hint=f"Its log: {_log(folder)}")
            time.sleep(POLL_SECONDS)


def _detail(folder: Path, finished: int, expected: int, ready: bool) -> str:
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        return "the disk is full: make room, and it continues"
    return f"{finished}/{expected} candidates" if expected and ready else "loading the models"


def _candidates(statuses: Sequence[JobStatus], count: int) -> tuple[int, int]:
    """The numbers of finished and of expected candidates; 0 while unknown."""
    usual = max((status.expected for status in statuses), default=0)
    expected = [
        status.finished if status.state in ENDED else status.expected or usual
        for status in statuses
    ]
    total = sum(expected) + usual * (count - len(statuses))
    return sum(status.finished for status in statuses), total


def _last_words(folder: Path) -> str:
    """The error that ended the workers, from their log."""
    lines = _log(folder).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("Error (")]
    # That of the process itself says more than that of its supervisor.
    errors.sort(key=lambda line: not line.startswith(REFUSED))
    return errors[-1].partition("): ")[2] if errors else "The workers ended unexpectedly."


def _report(
    client: JobClient, jobs: Sequence[Job], folder: Path, out: Console, problems: Mapping[str, str]
) -> int:
    failed = 0
    statuses = client.statuses([job.id for job in jobs])
    for job in jobs:
        name = str(job.origin["name"])
        if job.id not in problems and _is_written(folder, job):
            content = own_report(folder, name) or {}
            missing, unjudged = _missing_throughout(content), _not_judged(content)
            mark = "[yellow]![/]" if missing or unjudged else "[green]✓[/]"
            _say(out, mark, f"{folder / name / 'best.png'}{_potential(content)}")
            for note in missing:
                _say(out, " ", f"ranked without {note}")
            if unjudged:
                _say(out, " ", unjudged)
            continue
        failed += 1
        status = statuses.get(job.id)
        reason = status.failure.message if status and status.failure else "not finished"
        _say(out, "[red]✗[/]", f"{name}: {problems.get(job.id, reason)}")
    _say_overall(out, len(jobs), failed, folder)
    return failed


def _say_overall(out: Console, number: int, failed: int, folder: Path) -> None:
    tasks = "1 task" if number == 1 else f"{number} tasks"
    if not failed:
        words = f"{tasks} finished, in {folder}"
    elif failed == number:
        words = f"{tasks} failed. The same command tries again."
    else:
        words = (
            f"{failed} of {tasks} failed; the others are in {folder}. The same command tries the "
            "failed ones again."
        )
    out.print(escape(printable(words)), highlight=False, soft_wrap=True)


def _missing_throughout(report: Mapping[str, Any]) -> list[str]:
    """The notes of scorers that failed on every candidate of a report."""
    try:
        rendered = [set(one["notes"]) for one in report["candidates"] if not one.get("failure")]
        common = set.intersection(*rendered) if rendered else set()
        return sorted(note.replace(MISSING, ": ", 1) for note in common if MISSING in note)
    except (AttributeError, KeyError, TypeError):
        return []  # Somebody has edited the report.


def _not_judged(report: Mapping[str, Any]) -> str:
    """Why no candidate of a report was judged; empty if one was."""
    try:
        first = report["candidates"][0]
        notes = [*report.get("notes", ()), *first["notes"]]
        unjudged = first.get("potential") is None
        return next((note for note in notes if note.startswith(NOT_JUDGED)), "") if unjudged else ""
    except (AttributeError, KeyError, IndexError, TypeError):
        return ""  # Somebody has edited the report.


def _potential(report: Mapping[str, Any]) -> str:
    try:
        potential = float(report["candidates"][0]["potential"])
        low, high = map(float, report["potential_range"])
        share = min(1.0, max(0.0, (potential - low) / (high - low)))
        return f"  score {share:.0%} (potential {potential:.3f}; {low:g} is 0%, {high:g} is 100%)"
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
        return ""  # Somebody has edited the report.


def _say(out: Console, mark: str, text: str) -> None:
    out.print(f"{mark} {escape(printable(text))}", highlight=False, soft_wrap=True)
