"""The `eacps` command: wiring only; what each command does lives below."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from backend import __version__, log
from backend.domain import to_json
from backend.errors import EacpsError
from backend.settings import PROJECT_ROOT, Settings, load_settings, settings_table

if TYPE_CHECKING:
    from backend.jobs.supervisor import Process
    from backend.pipeline import Device

app = typer.Typer(
    help="Searches noises for the best image edit; Label Studio reviews it in place.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
jobs_app = typer.Typer(
    help="Look at jobs, cancel them, run them again, forget old ones.", no_args_is_help=True
)
app.add_typer(jobs_app, name="jobs")
out = Console()
err = Console(stderr=True)


def main() -> None:
    """Run the command; errors meant for people are one line, not a stack trace."""
    try:
        app()
    except EacpsError as error:
        err.print(f"[red]Error[/] ({error.code}): {error}", highlight=False)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Settings come from `EACPS_*` variables or `.env`; `eacps settings` shows them all."""


def _start(process: str) -> Settings:
    settings = load_settings()
    log.configure(settings.log_level, settings.log_format, process)
    return settings


@app.command()
def demo(
    label_studio: Annotated[
        Path, typer.Option(help="The label-studio program; `make demo` installs and names it.")
    ] = Path(".venv-label-studio/bin/label-studio"),
    folder: Annotated[Path, typer.Option(help="Where the demo keeps everything.")] = Path(".demo"),
    count: Annotated[int, typer.Option(min=1, max=500, help="How many bears.")] = 12,
    headless: Annotated[bool, typer.Option(help="Check everything, then stop.")] = False,
    browser: Annotated[bool, typer.Option(help="Open the project in a browser.")] = False,
) -> None:
    """Show everything at work: a real Label Studio, a tiny trained editor, bears to review."""
    from demo.show import DemoError, run_demo

    try:
        run_demo(label_studio, folder=folder, count=count, headless=headless, open_browser=browser)
    except DemoError as error:
        err.print(f"[red]The demo stopped:[/] {error}", highlight=False)
        raise SystemExit(1) from None


@app.command()
def serve(
    web_only: Annotated[
        bool, typer.Option(help="Only the web server; run `eacps worker` elsewhere.")
    ] = False,
) -> None:
    """Web server, orchestrator and one worker per device, restarted when they die."""
    from backend.jobs.supervisor import run_supervisor

    settings = _start("serve")
    # A wrong setting should stop us here, not in every child again and again.
    settings.fingerprint  # noqa: B018
    processes = [_web(settings)] if web_only else [_web(settings), *_workers(settings)]
    out.print(
        f"Backend on {settings.resolved_public_url} · status: {settings.resolved_public_url}/status"
        f" · model version {settings.model_version} · Ctrl-C stops",
        highlight=False,
    )
    run_supervisor(settings, processes)


@app.command()
def worker(
    orchestrator: Annotated[
        bool, typer.Option("--orchestrator", help="Only the orchestrator, in this process.")
    ] = False,
    slot: Annotated[
        int | None, typer.Option(min=0, help="Only one device's worker, in this process.")
    ] = None,
    device: Annotated[str, typer.Option(help="That worker's device: cpu, cuda:0 …")] = "cpu",
) -> None:
    """Orchestrator and one worker per device (EACPS_DEVICES), without the web server."""
    if orchestrator:
        _run_orchestrator(_start("orchestrator"))
    elif slot is not None:
        _run_worker(_start(f"worker {slot}"), slot, device)
    else:
        from backend.jobs.supervisor import run_supervisor

        settings = _start("worker")
        run_supervisor(settings, _workers(settings))


def _run_orchestrator(settings: Settings) -> None:
    from backend.jobs.orchestrator import run_orchestrator
    from backend.labelstudio.hooks import LabelStudioHooks

    run_orchestrator(settings, LabelStudioHooks(settings))


def _run_worker(settings: Settings, slot: int, device: str) -> None:
    from backend.artifacts import open_store
    from backend.jobs.worker import run_worker
    from backend.pipeline import open_device

    def load() -> Device:
        return open_device(settings, open_store(settings), device)

    run_worker(settings, slot, device, load)


def _web(settings: Settings) -> Process:
    from backend.jobs.supervisor import Process

    command = [
        sys.executable, "-m", "gunicorn", "--pythonpath", str(PROJECT_ROOT), "--threads", "16",
        "--bind", f"{settings.host}:{settings.port}", "--timeout", "120", "--no-control-socket",
        "_wsgi:app",
    ]  # fmt: skip
    return Process("web", command, {})


def _workers(settings: Settings) -> list[Process]:
    from backend.jobs.supervisor import Process

    command = [sys.executable, "-m", "backend", "worker", "--orchestrator"]
    return [Process("orchestrator", command, {}), *_device_workers(settings)]


def _device_workers(settings: Settings) -> list[Process]:
    from backend.editors.devices import resolve
    from backend.jobs.supervisor import Process

    devices = resolve(settings.devices)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // len(devices))
    python = [sys.executable, "-m", "backend", "worker"]
    processes = []
    for slot, device in enumerate(devices):
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        seen_as = device
        if device.startswith("cuda:"):
            # One process sees one GPU: a crash or a leak stays on it.
            environment["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
            seen_as = "cuda:0"
        command = [*python, "--slot", str(slot), "--device", seen_as]
        processes.append(Process(f"worker {slot}", command, environment))
    return processes


@app.command()
def run(
    out_folder: Annotated[Path, typer.Option("--out", help="Where images and JSON go.")],
    image: Annotated[str | None, typer.Option(help="One image: a file or URL.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The instruction for --image.")] = None,
    mask: Annotated[str | None, typer.Option(help="A mask for --image; white is edited.")] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(help="A Label Studio export (JSON), or JSON Lines with image and prompt."),
    ] = None,
    task_ids: Annotated[str, typer.Option(help="Only these ids of --from-file: 1,2,7-9.")] = "",
    devices: Annotated[str, typer.Option(help="Overrides EACPS_DEVICES.")] = "",
) -> None:
    """Search without Label Studio. Run it again to go on where it stopped: nothing is lost.

    Writes per task the best image, all candidates and one JSON with every score.

    Examples:

        eacps run --image bear.png --prompt "add a red top hat" --out results

        eacps run --from-file project.json --task-ids 1,2 --devices cuda:0,cuda:1 --out results
    """
    from backend.labelstudio.offline import read_tasks, run_offline

    overrides = {"devices": devices} if devices else {}
    settings = load_settings(**overrides)
    log.configure("WARNING", settings.log_format, "run")
    tasks = read_tasks(settings, image, prompt, mask, from_file, task_ids)
    failed = run_offline(settings, tasks, out_folder, err)
    raise SystemExit(1 if failed else 0)


@app.command("offline-workers", hidden=True)
def offline_workers(out_folder: Path, orchestrator: bool = False) -> None:
    """What `eacps run` starts: an orchestrator that writes into a folder, and the workers."""
    if orchestrator:
        from backend.jobs.orchestrator import run_orchestrator
        from backend.labelstudio.offline import FileHooks

        settings = _start("orchestrator")
        run_orchestrator(settings, FileHooks(settings, out_folder))
        return
    from backend.jobs.supervisor import Process, run_supervisor

    settings = _start("run")
    command = [sys.executable, "-m", "backend", "offline-workers", str(out_folder)]
    writer = Process("orchestrator", [*command, "--orchestrator"], {})
    run_supervisor(settings, [writer, *_device_workers(settings)])


@app.command()
def doctor() -> None:
    """Check machine, weights, database, store and Label Studio, and say what to do."""
    from backend.doctor import examine

    worst = "ok"
    for finding in examine(load_settings()):
        _finding(finding.state, f"{finding.subject}: {finding.message}")
        worst = "fail" if finding.state == "fail" else worst
    raise SystemExit(1 if worst == "fail" else 0)


@app.command()
def connect(
    project: Annotated[
        str, typer.Option(help="The project's number (see its address) or its title.")
    ],
    create: Annotated[bool, typer.Option(help="Make the project when there is none.")] = False,
    force: Annotated[
        bool, typer.Option(help="Replace the label config of a project with annotations.")
    ] = False,
) -> None:
    """Install label config, backend row and webhook into a Label Studio project. Repeatable."""
    from backend.labelstudio.connect import connect as connect_project

    number = int(project) if project.isdecimal() else project
    lines = connect_project(load_settings(), number, create=create, force=force)
    for line in lines:
        _finding(line.level, line.text)
    raise SystemExit(1 if any(line.level == "fail" for line in lines) else 0)


COLORS = {"ok": "green", "changed": "cyan", "warn": "yellow", "fail": "red"}
SYMBOLS = {"ok": "✓", "changed": "+", "warn": "!", "fail": "✗"}


def _finding(level: str, text: str) -> None:
    out.print(f"[{COLORS[level]}]{SYMBOLS[level]} {level:7}[/]", end=" ")
    out.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command("label-config")
def label_config() -> None:
    """Print the review screen's label config, to paste into Settings → Labeling Interface."""
    from backend.labelstudio.label_config import label_config as read

    sys.stdout.write(read(load_settings()))


@app.command()
def settings(
    markdown: Annotated[bool, typer.Option(help="As a Markdown table, as in the docs.")] = False,
) -> None:
    """Every setting, its value, where it came from, and what it does (* changes results)."""
    rows = list(settings_table(load_settings()))
    if markdown:
        for row in rows:
            sys.stdout.write(f"| `{row.variable}` | {row.help} |\n")
        return
    table = Table("Setting", "Value", "From", "What it does", row_styles=["", "dim"])
    for row in rows:
        star = " *" if row.changes_results else ""
        table.add_row(f"{row.variable}{star}", row.value, row.origin, row.help)
    out.print(table, markup=False)


@jobs_app.command("list")
def jobs_list(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    state: Annotated[str, typer.Option(help="Only queued, running, delivering, done …")] = "",
) -> None:
    """Jobs, newest first, with their progress."""
    from backend.jobs.client import JobClient

    table = Table("Job", "State", "Candidates", "Best", "Task", "What is wrong, or next")
    for status in JobClient(load_settings()).list(limit, state or None):  # type: ignore[arg-type]
        best = "" if status.best is None else f"{status.best:.3f}"
        note = status.failure.message if status.failure else status.note
        done = f"{status.finished}/{status.expected}" if status.expected else ""
        table.add_row(
            status.id, status.state, done, best, str(status.origin.get("task_id", "")), note
        )
    out.print(table, markup=False)


@jobs_app.command("show")
def jobs_show(job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Everything known about one job, as JSON."""
    from backend.jobs.client import JobClient

    status = JobClient(load_settings()).status(job)
    if status is None:
        raise EacpsError(f"There is no job {job}.", hint="`eacps jobs list` shows them.")
    out.print_json(data=to_json(status))


@jobs_app.command("cancel")
def jobs_cancel(job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Stop a job; its device is free a second later."""
    from backend.jobs.client import JobClient

    changed = JobClient(load_settings()).cancel(job)
    out.print(f"Cancelled {job}." if changed else f"{job} had ended before; nothing to cancel.")


@jobs_app.command("retry")
def jobs_retry(job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Run a failed or cancelled job again; candidates that finished are kept."""
    from backend.jobs.client import JobClient

    changed = JobClient(load_settings()).retry(job)
    out.print(f"Queued {job} again." if changed else f"{job} has not failed; nothing to retry.")


@jobs_app.command("prune")
def jobs_prune(
    days: Annotated[float, typer.Option(min=0, help="Older than so many days.")] = 30,
) -> None:
    """Forget finished jobs and remove artifacts that are older."""
    from backend.artifacts import open_store
    from backend.jobs.client import JobClient

    loaded = load_settings()
    count = JobClient(loaded).prune(days)
    files = open_store(loaded).prune(days * 86400)
    out.print(f"Forgot {count} jobs, removed {files} files.")
