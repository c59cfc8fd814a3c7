"""`eacps demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eacps.cli.printing import err


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
