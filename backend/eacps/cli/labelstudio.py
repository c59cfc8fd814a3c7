"""`eacps connect` and `eacps label-config`: what is set up in Label Studio."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eacps.cli.loading import load_quietly
from eacps.cli.printing import print_finding
from eacps.settings import load_settings


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
    lines = connect_project(load_quietly(), number, create=create, force=force)
    for line in lines:
        print_finding(line.level, line.text)
    raise SystemExit(1 if any(line.level == "fail" for line in lines) else 0)


def label_config() -> None:
    """Print the review screen's label config, to paste into Settings → Labeling Interface."""
    from eacps.labelstudio.label_config import label_config as read

    sys.stdout.write(read(load_settings()))
