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
from eacps.errors import EacpsError, SettingsError
from eacps.jobs.contract import JobState, JobStatus

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
) -> None:
    """List jobs, newest first, with their progress and errors."""
    with _jobs() as client:
        found = client.list(limit, state)
    for status in found:
        _print_job(status)
    if not found:
        out.print(f"There are no {state} jobs." if state else "There are no jobs yet.")


def _print_job(status: JobStatus) -> None:
    color = STATE_COLORS.get(status.state, "cyan")
    done = f"{status.finished}/{status.expected}" if status.expected else ""
    best = "" if status.best is None else f"best {status.best:.3f}"
    number = status.origin.get("task")
    asked = datetime.fromtimestamp(status.created).strftime("%m-%d %H:%M")
    out.print(
        f"{escape(status.id):24} [{color}]{status.state:10}[/] {asked}  {done:>7}  {best:12} "
        f"{f'task {number}' if number else ''}".rstrip(),
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
    """Cancel a job; its device is free about a second later."""
    with _jobs() as client:
        changed = client.cancel(job)
    out.print(f"Cancelled {job}." if changed else f"{job} has already ended; nothing to cancel.")


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
) -> None:
    """Run a failed or cancelled job again, or all failed ones, keeping finished candidates.

    `eacps jobs list --state failed` shows the codes.

    Examples:

        eacps jobs retry 0a1b2c3d4e5f

        eacps jobs retry --failed --since 2h --dry-run

        eacps jobs retry --failed --since 2026-11-20 --code label_studio_stumbled
    """
    if bool(job) == failed or (job and (since or code or dry_run)):
        raise SettingsError("Pass either a job, or --failed with --since, --code or --dry-run.")
    if job:
        with _jobs() as client:
            changed = client.retry(job)
        out.print(f"Queued {job} again." if changed else f"{job} has not failed; nothing to retry.")
        return
    moment = _moment(since) if since else 0.0
    with _jobs() as client:
        found = client.failed(moment, code)
        queued = 0 if dry_run else client.retry_all(found)
    for name, number in sorted(Counter(found.values()).items()):
        out.print(f"{number:>6}  {escape(name)}", highlight=False)
    if dry_run:
        out.print(f"{_words(len(found))} would be queued again.", highlight=False)
    elif found:
        out.print(f"Queued {_words(queued)} again.", highlight=False)
    else:
        out.print("No such job has failed; nothing to retry.")


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
