"""How offline commands show that they get on."""

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
    """What is done in words and as a bar, then the details, and the time since the start."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *details,
        TimeElapsedColumn(),
        console=console,
        redirect_stdout=redirect_stdout,
    )
