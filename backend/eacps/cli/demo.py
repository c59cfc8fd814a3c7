"""`eacps demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eacps.cli.printing import err


def demo(
    label_studio: Annotated[
        Path, typer.Option(help="The label-studio program, which `make demo` installs.")
    ] = Path(".venv-label-studio/bin/label-studio"),
    folder: Annotated[Path, typer.Option(help="Folder for all files of the demo.")] = Path(".demo"),
    count: Annotated[int, typer.Option(min=1, max=500, help="Number of bears.")] = 12,
    headless: Annotated[
        bool, typer.Option("--headless", help="Check everything, then exit.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser", help="Open the project in a browser.")
    ] = False,
) -> None:
    """Run a demo: a real Label Studio, a tiny trained editor, and bears to review."""
    from eacps.demo.show import DemoError, run_demo

    try:
        run_demo(label_studio, folder=folder, count=count, headless=headless, open_browser=browser)
    except DemoError as error:
        err.print(f"[red]The demo stopped:[/] {error}", highlight=False)
        raise SystemExit(1) from None
