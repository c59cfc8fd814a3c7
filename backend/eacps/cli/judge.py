"""`eacps judge …`: rubrics, what judges were asked, and how well they judge."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from eacps.cli.loading import load_quietly
from eacps.cli.printing import out, print_json

judge_app = typer.Typer(
    help="Judges that read language: their rubrics, their cost, and how well they judge.",
    no_args_is_help=True,
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
