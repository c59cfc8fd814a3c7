"""`eacps connect`, `eacps search-again`, `eacps export` and `eacps label-config`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from eacps.cli.loading import load_quietly
from eacps.cli.printing import print_finding
from eacps.settings import load_settings


def connect(
    project: Annotated[str, typer.Option(help="The project's number (see its URL) or title.")],
    create: Annotated[
        bool, typer.Option("--create", help="Create the project if it does not exist.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the label config even if there are annotations."),
    ] = False,
) -> None:
    """Install label config, backend and webhook in a Label Studio project. Safe to repeat.

    The backend must be running (`eacps serve`), because Label Studio checks its health.

    Examples:

        eacps connect --project 7

        eacps connect --project "Bear edits" --create
    """
    from eacps.labelstudio.connect import connect as connect_project

    number = int(project) if project.isdecimal() else project
    lines = connect_project(load_quietly(), number, create=create, force=force)
    for line in lines:
        print_finding(line.level, line.text)
    raise SystemExit(1 if any(line.level == "fail" for line in lines) else 0)


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
) -> None:
    """Print a project's reviews as JSON Lines, one per annotation.

    Each has the verdict, the ranking, the comment, the candidates it names with picture, scores and
    recipe, the best by human and by machine, and what does not fit together.

    Example:

        eacps export 7 > reviews.jsonl
    """
    from eacps.labelstudio.client import open_client
    from eacps.labelstudio.reviews import export as reviews_of

    for review in reviews_of(open_client(load_quietly()), project):
        sys.stdout.write(json.dumps(review, ensure_ascii=False) + "\n")


def label_config() -> None:
    """Print the review label config, to paste into Settings → Labeling Interface."""
    from eacps.labelstudio.label_config import label_config as read

    sys.stdout.write(read(load_settings()))
