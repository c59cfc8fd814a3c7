"""`eacps jobs`: list, show, cancel, retry, restart, prune."""

from __future__ import annotations

import re
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from eacps.cli.loading import load_quietly
from eacps.cli.printing import out
from eacps.domain import to_json
from eacps.errors import FAULTS_OF_TASKS, EacpsError, SettingsError
from eacps.jobs.contract import JobFilter, JobState, JobStatus, can_only_fail_again
from eacps.labelstudio.tasks.regions import mapping

if TYPE_CHECKING:
    from eacps.artifacts import ArtifactStore
    from eacps.jobs.client import JobClient
    from eacps.settings import Settings

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
STATE_COLORS = {"done": "green", "failed": "red", "cancelled": "yellow"}

jobs_app = typer.Typer(help="List, cancel, retry and delete jobs.", no_args_is_help=True)


@jobs_app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of jobs, newest first.")] = 50,
    state: Annotated[
        JobState | None,
        typer.Option(
            metavar="STATE",
            help="Only jobs that are queued, running, delivering, done, failed or cancelled.",
        ),
    ] = None,
    project: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, help="Only jobs of this project of Label Studio."),
    ] = None,
    task: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, help="Only jobs of this task of Label Studio."),
    ] = None,
    code: Annotated[
        str, typer.Option(metavar="CODE", help="Only jobs that failed with this error code.")
    ] = "",
) -> None:
    """List jobs, newest first, with their progress and errors.

    The status page (`/status` of the backend) shows the same, with the same filters.

    Examples:

        eacps jobs list --state failed --project 3

        eacps jobs list --code label_studio_stumbled
    """
    wanted = JobFilter(state, project, task, code)
    with _jobs() as client:
        page = client.page(wanted, limit)
        codes = client.failure_codes() if code and not page.jobs else []
    for status in page.jobs:
        _print_job(status)
    if page.end is not None:
        out.print(f"There are more; `--limit {10 * limit}` shows them.", highlight=False)
    if not page.jobs:
        everything = wanted == JobFilter()
        out.print("There are no jobs yet." if everything else "There are no such jobs.")
        if code and code not in codes:
            known = ", ".join(codes) or "none"
            out.print(f"Codes of jobs that failed: {escape(known)}.", highlight=False)


def _print_job(status: JobStatus) -> None:
    color = STATE_COLORS.get(status.state, "cyan")
    done = f"{status.finished}/{status.expected}" if status.expected else ""
    best = "" if status.best is None else f"best {status.best:.3f}"
    origin = mapping(status.origin)
    number, project = origin.get("task"), origin.get("project")
    of = f"task {number}" if number else ""
    of += f" of project {project}" if number and project else ""
    asked = datetime.fromtimestamp(status.created).strftime("%m-%d %H:%M")
    out.print(
        f"{escape(status.id):24} [{color}]{status.state:10}[/] {asked}  {done:>7}  {best:12} "
        f"{escape(of)}".rstrip(),
        highlight=False,
        soft_wrap=True,
    )
    failure = status.failure
    note = f"{failure.code}: {failure.message}" if failure else status.note
    for line in textwrap.wrap(note, min(out.width, 100) - 4):
        out.print(f"    {escape(line)}", highlight=False)


@jobs_app.command("show")
def show_job(job: JobName) -> None:
    """Show everything about a job as JSON."""
    with _jobs() as client:
        status = client.status(job)
    if status is None:
        raise EacpsError(
            f"There is no job {job!r}.", hint="`eacps jobs list` shows them.", code="no_such_job"
        )
    out.print_json(data=to_json(status))


@jobs_app.command("cancel")
def cancel_job(job: JobName) -> None:
    """Cancel a job; its device is free about a second later.

    Exit code 2: the job has ended already, or is unknown.
    """
    with _jobs() as client:
        if not client.cancel(job):
            raise EacpsError(
                f"{job} has already ended: {_state(client, job)}. There is nothing to cancel.",
                code="has_ended",
            )
    out.print(f"Cancelled {job}.", highlight=False)


@jobs_app.command("retry")
def retry_jobs(
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="The job's id.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="All jobs that failed.")] = False,
    since: Annotated[
        str,
        typer.Option(metavar="WHEN", help="With --failed: only since then: 30m, 2h, 3d or a date."),
    ] = "",
    code: Annotated[
        str, typer.Option(metavar="CODE", help="With --failed: only those with this error code.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print how many would be run again.")
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Also jobs that failed because of their tasks, and would fail again."
        ),
    ] = False,
) -> None:
    """Run a failed or cancelled job again, or all failed ones, keeping finished candidates.

    `eacps jobs list --state failed` shows the codes. A job that failed because of its task, such as
    one without an instruction, would fail again: correct the task in Label Studio and open it,
    which makes a new job. Such jobs run again only with --anyway, or if --code names their code:
    after a setting or a file was changed, for example. Exit code 2: this job was not queued.

    Examples:

        eacps jobs retry 0a1b2c3d4e5f

        eacps jobs retry --failed --since 2h --dry-run

        eacps jobs retry --failed --since 2026-11-20 --code label_studio_stumbled
    """
    if bool(job) == failed or (job and (since or code or dry_run)):
        raise SettingsError("Pass either a job, or --failed with --since, --code or --dry-run.")
    if job:
        _retry_one(job, anyway)
        return
    moment = _moment(since) if since else 0.0
    with _jobs() as client:
        found = client.failed(moment, code)
        left_out = {
            name for name, why in found.items() if why in FAULTS_OF_TASKS and not (anyway or code)
        }
        wanted = [name for name in found if name not in left_out]
        queued = 0 if dry_run else client.retry_all(wanted)
    for name, number in sorted(Counter(found[job] for job in wanted).items()):
        out.print(f"{number:>6}  {escape(name)}", highlight=False)
    if dry_run:
        out.print(f"{_words(len(wanted))} would be queued again.", highlight=False)
    elif wanted:
        out.print(f"Queued {_words(queued)} again.", highlight=False)
    else:
        out.print("No such job has failed; nothing to retry.")
    if left_out:
        codes = ", ".join(sorted({found[name] for name in left_out}))
        out.print(
            f"Left out: {_words(len(left_out))} whose tasks are wrong ({escape(codes)}), because "
            "they would fail again. --anyway includes them.",
            highlight=False,
            soft_wrap=True,
        )


def _retry_one(job: str, anyway: bool) -> None:
    with _jobs() as client:
        status = client.status(job)
        if status is not None and can_only_fail_again(status) and not anyway:
            reason = status.failure.message if status.failure else ""
            raise EacpsError(
                f"{job} failed because of its task, and would fail again: {reason}",
                hint="Correct the task in Label Studio and open it, which makes a new job. If a "
                "setting or a file was changed since, add --anyway.",
                code="would_fail_again",
            )
        if not client.retry(job):
            raise EacpsError(
                f"{job} has not failed: {_state(client, job)}. There is nothing to retry.",
                code="not_failed",
            )
    out.print(f"Queued {job} again.", highlight=False)


def _state(client: JobClient, job: str) -> str:
    """A job's state, in words."""
    status = client.status(job)
    return "it is gone" if status is None else f"it is {status.state}"


def _words(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _moment(when: str) -> float:
    """Seconds since the epoch, from a time span until now, or a local date."""
    span = _SPAN.fullmatch(when)
    try:
        if span:
            return time.time() - float(span[1]) * _SECONDS[span[2]]
        return datetime.fromisoformat(when).timestamp()
    except (ValueError, OverflowError):
        raise SettingsError(
            f"--since {when!r} is neither a time span nor a date.",
            hint="Write 30m, 2h, 3d, 2026-11-20 or 2026-11-20T14:30.",
        ) from None


@jobs_app.command("restart")
def restart_jobs(
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="The job's id.")] = "",
    waiting: Annotated[
        bool,
        typer.Option("--waiting", help="All jobs that wait for a worker with other settings."),
    ] = False,
) -> None:
    """Run a job from its beginning with the current settings.

    Use this for jobs with an editor or judges that no worker has any more.
    """
    with _jobs() as client:
        if bool(job) == waiting:
            raise SettingsError("Pass either a job or --waiting.")
        wanted = client.waiting_jobs() if waiting else [job]
        for identity in wanted:
            client.restart(identity)
            out.print(f"Queued {identity} again.", highlight=False)
    if not wanted:
        out.print("No job waits for a missing worker.")


@jobs_app.command("prune")
def prune_jobs(
    days: Annotated[float, typer.Option(min=0, help="Minimum age in days.")] = 30,
    deleted_tasks: Annotated[
        bool,
        typer.Option(
            "--deleted-tasks",
            help="Also ask Label Studio which tasks were deleted, and keep no images for them.",
        ),
    ] = False,
) -> None:
    """Delete old finished jobs and artifacts.

    Images that this backend serves (EACPS_IMAGE_HOSTING=backend) are kept for as long as a task
    shows them, unless EACPS_KEEP_SHOWN_IMAGES=false.

    Examples:

        eacps jobs prune --days 7

        eacps jobs prune --deleted-tasks
    """
    from eacps.artifacts import open_store
    from eacps.jobs.retention import prune_files, prune_notes

    settings = load_quietly()
    with _jobs() as client:
        count = client.prune(days)
        needed = client.needed_files(days * 86400)
    store = open_store(settings)
    if deleted_tasks:
        out.print(f"{_forget_deleted_tasks(settings, store)} deleted tasks need no images.")
    keep_shown = settings.keep_shown_images
    files = prune_files(store, days * 86400, needed, keep_shown=keep_shown)
    files += prune_notes(settings.data_dir / "uploads", store, days * 86400)
    out.print(f"Deleted {count} jobs and {files} files.")


def _forget_deleted_tasks(settings: Settings, store: ArtifactStore) -> int:
    from eacps.labelstudio.client import open_client
    from eacps.labelstudio.shown import forget_deleted_tasks

    if not settings.label_studio_url:
        raise SettingsError("LABEL_STUDIO_URL is empty.", hint="Set it, to ask for its tasks.")
    return forget_deleted_tasks(open_client(settings), store)


@contextmanager
def _jobs() -> Iterator[JobClient]:
    from eacps.offline.database import readable_database

    settings = load_quietly()
    with readable_database(settings):
        yield _client(settings)


def _client(settings: Settings) -> JobClient:
    from eacps.jobs.client import JobClient

    url = settings.resolved_database_url
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        raise SettingsError(
            f"There is no jobs database at {url.removeprefix('sqlite:///')}.",
            hint="Run this in the backend's folder, or set EACPS_DATA_DIR as there.",
        )
    return JobClient(settings)
