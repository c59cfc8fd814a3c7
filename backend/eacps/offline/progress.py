"""The progress bar of offline commands."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


def progress_bar(
    console: Console, *details: ProgressColumn, redirect_stdout: bool = True
) -> Progress:
    """A progress bar with a description, details, and the elapsed time."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *details,
        TimeElapsedColumn(),
        console=console,
        redirect_stdout=redirect_stdout,
    )
