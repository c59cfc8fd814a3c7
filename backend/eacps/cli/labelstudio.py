"""`eacps connect`, `disconnect`, `search-again`, `export` and `label-config`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from eacps.cli.loading import load_quietly
from eacps.cli.printing import err, print_finding
from eacps.settings import load_settings

Layout = Literal["images", "pick-a-pic", "trl"]
MISSING_SHOWN = 20
ProjectOption = Annotated[str, typer.Option(help="The project's number (see its URL) or title.")]
BackendUrlOption = Annotated[
    str,
    typer.Option(metavar="URL", help="This backend's address, instead of EACPS_PUBLIC_URL."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only print what would be changed.")]


def connect(
    project: ProjectOption,
    create: Annotated[
        bool, typer.Option("--create", help="Create the project if it does not exist.")
    ] = False,
    dry_run: DryRunOption = False,
    backend_url: BackendUrlOption = "",
    replace_config: Annotated[
        bool,
        typer.Option(
            "--replace-config",
            help="Install the review label config in place of the project's own, instead of adding "
            "to it. Only possible if nothing was annotated with it; a copy is kept.",
        ),
    ] = False,
) -> None:
    """Install review screen, backend and webhook in a Label Studio project. Safe to repeat.

    The review screen is added to a label config that the project has of its own; nothing annotated
    is lost. Either everything is installed or, if a step fails, nothing; `eacps disconnect` undoes
    it. The backend must be running (`eacps serve`), because Label Studio checks its health.

    Examples:

        eacps connect --project 7 --dry-run

        eacps connect --project 7

        eacps connect --project "Bear edits" --create
    """
    from eacps.labelstudio.connect import connect as connect_project

    lines = connect_project(
        load_quietly(),
        _number_or_title(project),
        create=create,
        backend_url=backend_url,
        replace_config=replace_config,
        dry_run=dry_run,
        tell=lambda line: print_finding(line.level, line.text),
    )
    raise SystemExit(1 if any(line.level == "fail" for line in lines) else 0)


def disconnect(
    project: ProjectOption, dry_run: DryRunOption = False, backend_url: BackendUrlOption = ""
) -> None:
    """Undo `eacps connect`: webhook, backend, tabs, settings and label config.

    The label config goes back to what it was, unless annotations were made with the review screen.
    Tasks, results and annotations stay.

    Example:

        eacps disconnect --project 7 --dry-run
    """
    from eacps.labelstudio.disconnect import disconnect as disconnect_project

    lines = disconnect_project(
        load_quietly(),
        _number_or_title(project),
        backend_url=backend_url,
        dry_run=dry_run,
        tell=lambda line: print_finding(line.level, line.text),
    )
    raise SystemExit(1 if any(line.level == "fail" for line in lines) else 0)


def _number_or_title(project: str) -> int | str:
    return int(project) if project.isdecimal() else project


def search_again(
    project: Annotated[int, typer.Argument(metavar="PROJECT", help="The project's number.")],
    task_ids: Annotated[str, typer.Option(metavar="IDS", help="Only these tasks: 1,2,7-9.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be searched again.")
    ] = False,
) -> None:
    """Search a project's finished tasks again with the current settings.

    Finished tasks keep their results when settings change or the backend is upgraded, unless their
    data changes or you run this command. Pictures that the same editor has already rendered are
    only judged again. Tasks with annotations are skipped, because annotations refer to candidates
    of the existing result.

    Examples:

        eacps search-again 7 --dry-run

        eacps search-again 7 --task-ids 11,20-35
    """
    from eacps.jobs.client import JobClient
    from eacps.labelstudio.client import open_client
    from eacps.labelstudio.search_again import FATES, search_again
    from eacps.offline.database import readable_database
    from eacps.offline.tasks import ranges_in

    loaded = load_quietly()
    only = list(ranges_in(task_ids))
    with readable_database(loaded):
        again = search_again(
            loaded, open_client(loaded), JobClient(loaded), project, only=only, dry_run=dry_run
        )
    for fate, words in FATES.items():
        if again.counts[fate]:
            level = "changed" if fate == "queued" and not dry_run else "ok"
            print_finding(level, f"{again.counts[fate]} tasks {words}")
    if not any(again.counts.values()):
        print_finding("warn", f"Project {project} has no tasks.")
    elif again.counts["queued"]:
        would = "would be" if dry_run else "is"
        print_finding("ok", f"the new model version {would} {again.model_version}")


def export(
    project: Annotated[int, typer.Argument(metavar="PROJECT", help="The project's number.")],
    table: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The table: FILE.csv, .jsonl or .parquet."),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="csv, jsonl or parquet, whatever FILE is called."
        ),
    ] = "",
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also keep the pictures that reviews name."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write preference pairs: FILE.parquet, or .jsonl."),
    ] = None,
    layout: Annotated[Layout, typer.Option(help="Which trainers read the pairs.")] = "images",
    all_pairs: Annotated[
        bool,
        typer.Option(
            "--all-pairs", help="Also pairs whose order is the search's, which nobody changed."
        ),
    ] = False,
) -> None:
    """Export a project's reviews: a table, pictures, and preference pairs.

    The table has one row per annotation, with the verdict, the ranking, the comment, the candidates
    it names with picture, scores and recipe, the best by human and by machine, and what does not
    fit together. Without any file it is printed as JSON Lines.

    Files appear when they are whole, and replace only what this command wrote. Pictures that are
    there already are not fetched again, so an interrupted export continues with the same command.

    Examples:

        eacps export 7 > reviews.jsonl

        eacps export 7 --out reviews.csv --pictures pictures

        eacps export 7 --pairs pairs.parquet --layout pick-a-pic
    """
    from eacps.export.run import Wanted
    from eacps.export.run import export as export_reviews

    wanted = Wanted(table, kind, pictures, pairs, layout, all_pairs)
    done = export_reviews(load_quietly(), project, wanted, err)
    for name, why in list(done.missing.items())[:MISSING_SHOWN]:
        err.print(f"{name} is missing: {why}", highlight=False, markup=False, soft_wrap=True)
    if wanted.to_files:
        print_finding("ok", done.summary)


def label_config() -> None:
    """Print the review label config, to paste into Settings → Labeling Interface."""
    from eacps.labelstudio.label_config import label_config as read

    sys.stdout.write(read(load_settings()))
