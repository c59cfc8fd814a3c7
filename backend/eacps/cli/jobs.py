"""`eacps jobs`: list, show, cancel, retry, restart, prune."""

from __future__ import annotations

import textwrap
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
    from eacps.jobs.client import JobClient
    from eacps.settings import Settings

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
STATE_COLORS = {"done": "green", "failed": "red", "cancelled": "yellow"}

jobs_app = typer.Typer(
    help="Look at jobs, cancel them, run them again, forget old ones.", no_args_is_help=True
)


@jobs_app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    state: Annotated[
        JobState | None,
        typer.Option(
            metavar="STATE",
            help="Only jobs that are queued, running, delivering, done, failed or cancelled.",
        ),
    ] = None,
) -> None:
    """Jobs, newest first, with their progress and what is wrong or comes next."""
    found = _client(load_quietly()).list(limit, state)
    for status in found:
        _print_job(status)
    if not found:
        out.print(f"No job is {state}." if state else "No jobs yet.")


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
    note = status.failure.message if status.failure else status.note
    for line in textwrap.wrap(note, min(out.width, 100) - 4):
        out.print(f"    {escape(line)}", highlight=False)


@jobs_app.command("show")
def show_job(job: JobName) -> None:
    """Everything known about one job, as JSON."""
    status = _client(load_quietly()).status(job)
    if status is None:
        raise EacpsError(
            f"There is no job {job!r}.", hint="`eacps jobs list` shows them.", code="no_such_job"
        )
    out.print_json(data=to_json(status))


@jobs_app.command("cancel")
def cancel_job(job: JobName) -> None:
    """Stop a job; its device is free a second later."""
    changed = _client(load_quietly()).cancel(job)
    out.print(f"Cancelled {job}." if changed else f"{job} had ended before; nothing to cancel.")


@jobs_app.command("retry")
def retry_job(job: JobName) -> None:
    """Run a failed or cancelled job again; candidates that finished are kept."""
    changed = _client(load_quietly()).retry(job)
    out.print(f"Queued {job} again." if changed else f"{job} has not failed; nothing to retry.")


@jobs_app.command("restart")
def restart_jobs(
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="The job's id.")] = "",
    waiting: Annotated[
        bool,
        typer.Option("--waiting", help="All that wait for a worker with settings that none has."),
    ] = False,
) -> None:
    """Run a job from its beginning, with the settings of now.

    For jobs that were asked for with an editor or with judges that no worker has any more.
    """
    client = _client(load_quietly())
    if bool(job) == waiting:
        raise SettingsError("Name either one job, or --waiting.")
    wanted = client.waiting_jobs() if waiting else [job]
    for identity in wanted:
        client.restart(identity)
        out.print(f"Queued {identity} anew.", highlight=False)
    if not wanted:
        out.print("No job waits for a worker that is not there.")


@jobs_app.command("prune")
def prune_jobs(
    days: Annotated[float, typer.Option(min=0, help="Older than so many days.")] = 30,
) -> None:
    """Forget finished jobs and remove artifacts that are older."""
    from eacps.artifacts import open_store

    settings = load_quietly()
    count = _client(settings).prune(days)
    files = open_store(settings).prune(days * 86400)
    out.print(f"Forgot {count} jobs, removed {files} files.")


def _client(settings: Settings) -> JobClient:
    from eacps.jobs.client import JobClient

    url = settings.resolved_database_url
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        raise SettingsError(
            f"There is no jobs database at {url.removeprefix('sqlite:///')}.",
            hint="Run this where the backend runs, or set EACPS_DATA_DIR as it does.",
        )
    return JobClient(settings)
