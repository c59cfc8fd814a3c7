"""`eacps judge …`: rubrics, what judges were asked, and how well they judge."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from eacps.cli.loading import load_quietly
from eacps.cli.printing import err, out, print_finding, print_json, print_notes
from eacps.errors import SettingsError

if TYPE_CHECKING:
    from eacps.offline.judging.projects import Skipped
    from eacps.offline.judging.rescoring import Rescored
    from eacps.settings import Settings

judge_app = typer.Typer(
    help="Judges that read language: their rubrics, their cost, and how well they judge.",
    no_args_is_help=True,
)


def rescore(
    results: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A folder of `eacps run`.")
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Another folder, for the new order of DIR."),
    ] = None,
    project: Annotated[
        int, typer.Option(help="Instead of DIR: the number of a project in Label Studio.")
    ] = 0,
    task_ids: Annotated[
        str, typer.Option(metavar="IDS", help="Only these tasks of --project: 1,2,7-9.")
    ] = "",
    device: Annotated[str, typer.Option(help="For scorers that run on this machine.")] = "cpu",
) -> None:
    """Judge finished results again with the present judges and potential. Renders nothing.

    Results of route edit are judged again; the others are left out. In a project, tasks get the new
    order as their prediction; those with annotations, and those that these settings have judged,
    keep their result. Exit code 1: some tasks could not be judged.

    Examples:

        EACPS_VERIFIER=openai:gpt-5 eacps rescore results --out rescored

        eacps rescore --project 7
    """
    from eacps.offline.judging.projects import Skipped

    settings = load_quietly()
    print_notes(settings)
    failed = changed = kept = 0
    for each in _rescored(settings, results, out_folder, project, task_ids, device):
        if isinstance(each, Skipped):
            print_finding("ok", f"{each.name} keeps its result: it {each.why}")
        elif each.problem:
            failed += 1
            print_finding("fail", f"{each.name}: {each.problem}")
        elif each.before != each.after:
            changed += 1
            print_finding("changed", f"{each.name}: {each.after} is best, it was {each.before}")
        else:
            kept += 1
    words = f"{changed} tasks have another best candidate, {kept} the same; {failed} not judged"
    out.print(words, highlight=False)
    raise SystemExit(1 if failed else 0)


def _rescored(
    settings: Settings,
    results: Path | None,
    out_folder: Path | None,
    project: int,
    task_ids: str,
    device: str,
) -> Iterator[Rescored | Skipped]:
    if project and not results and not out_folder:
        from eacps.jobs.client import JobClient
        from eacps.labelstudio.client import open_client
        from eacps.offline.database import readable_database
        from eacps.offline.judging.projects import rescore_project
        from eacps.offline.tasks import ranges_in

        only = list(ranges_in(task_ids))
        with readable_database(settings):
            client, jobs = open_client(settings), JobClient(settings)
            yield from rescore_project(settings, client, jobs, project, device, only=only)
    elif results and out_folder and not project:
        from eacps.offline.judging.rescoring import rescore as rescored

        yield from rescored(settings, results, out_folder, device)
    else:
        raise SettingsError(
            "There is nothing to judge again.", hint="Pass DIR and --out FOLDER, or --project N."
        )


@judge_app.command()
def rubric(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A rubric's name; without it all are listed.")
    ] = "",
) -> None:
    """Print a rubric, to copy and change it.

    Example:

        eacps judge rubric edit > mine.toml
    """
    from eacps.rubrics.reading import read_rubric, rubric_names, rubric_text

    load_quietly()
    if name:
        read_rubric(name)
        sys.stdout.write(rubric_text(name))
        return
    table = Table("rubric", "version", "asks", "metrics")
    for each in map(read_rubric, rubric_names()):
        table.add_row(each.name, str(each.version), each.title, ", ".join(each.ranges))
    out.print(table)


@judge_app.command()
def measure(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA", help="Output of `eacps export`, or files or folders of labelled edits."
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="A value of EACPS_VERIFIER, or `potential`. Repeat it to compare."),
    ] = None,
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder for rows, JSON and a plot.")
    ] = Path("judged"),
    demo: Annotated[int, typer.Option(help="Also measure on so many of the demo's tasks.")] = 0,
    limit: Annotated[int, typer.Option(help="Only so many tasks; 0: all.")] = 0,
    metric: Annotated[str, typer.Option(help="Instead of the judge's main metric.")] = "",
    pairs: Annotated[
        int, typer.Option(help="Compare in pairs, at most so many per task, instead of scoring.")
    ] = 0,
    device: Annotated[str, typer.Option(help="For judges that run on this machine.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how well judges put edits into their known order. Renders nothing.

    Run the same command again to resume.

    Examples:

        eacps judge measure --demo 20 --judge openai:gpt-5

        eacps judge measure rankings.jsonl --judge openai:gpt-5 --judge potential --out judged
    """
    from eacps.offline.judging.datasets import demo_labelled, read_labelled
    from eacps.offline.judging.measuring import Setup
    from eacps.offline.judging.measuring import measure as measure_judges

    settings = load_quietly()
    items = [each for path in data or () for each in read_labelled(path, settings)]
    items += demo_labelled(demo) if demo else []
    if not items:
        raise SettingsError("There is nothing to measure on.", hint="Pass DATA, or --demo 20.")
    names = judge or list(settings.verifiers)
    if not names:
        raise SettingsError("No judge is named.", hint="Pass --judge openai:MODEL, for example.")
    setup = Setup(settings, device, metric, pairs)
    found = measure_judges(names, items[: limit or None], out_folder, setup, _progress)
    if as_json:
        print_json(found)
        return
    out.print(_table(found))
    print_finding("ok", f"{out_folder}: rows of every judge, summary.json, auc.svg")


def _progress(name: str, done: int, count: int) -> None:
    if err.is_terminal or done == count:
        end = "\n" if done == count else "\r"
        err.print(f"{name}: {done} of {count} tasks", end=end, highlight=False, markup=False)


def _table(found: Mapping[str, Any]) -> Table:
    """The measures, one line each, with the judges side by side."""
    from eacps.offline.judging.measuring import MEASURES

    table = Table("", *map(escape, found))
    for name in (*MEASURES, "calibration_error", "tasks", "calls", "tokens", "cost", "seconds"):
        cells = (_cell(each, name) for each in found.values())
        table.add_row(name.replace("_", " "), *cells)
    for judge, each in found.items():
        for problem, times in each["problems"].items():
            err.print(f"{judge}: {problem} ({times} tasks)", highlight=False, markup=False)
    return table


def _cell(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if name == "tokens":
        return f"{found['read'] + found['written']:,}"
    if name == "seconds":
        value = found["seconds_per_candidate"]["median"]
        return "-" if value is None else f"{value:.2f} a candidate"
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


@judge_app.command()
def spending(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
) -> None:
    """Show what servers that judge were asked from this machine, by day and project."""
    from eacps.verifiers.language.storage import Storage

    settings = load_quietly()
    storage = Storage(settings.data_dir, keep_days=settings.judge_cache_days, limits={})
    totals = storage.totals()
    if as_json:
        for row in totals:
            print_json(row)
        return
    table = Table("day", "project", "judge", "tasks", "calls", "read", "written", "cost")
    for row in totals:
        cost = f"{row['cost']:.4f}" if row["cost"] else "-"
        numbers = (f"{row[name]:,}" for name in ("tasks", "calls", "read", "written"))
        table.add_row(row["day"], row["project"] or "-", row["judge"], *numbers, cost)
    out.print(table)
