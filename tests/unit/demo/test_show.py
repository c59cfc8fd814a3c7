"""What `eacps demo` prints in a terminal of 80 columns."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from eacps.demo.show import explanation, progress_bar

WIDTH = 80


def printed(renderable: object) -> list[str]:
    console = Console(width=WIDTH, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().splitlines()


def test_the_bar_can_be_seen_whatever_is_said_beside_it() -> None:
    progress = progress_bar(Console(width=WIDTH, file=io.StringIO()))
    progress.add_task("Searching", total=12, completed=12, detail="candidates: " + "12/32, " * 4)
    (line,) = printed(progress)
    assert line.count("━") >= 15
    assert "candidates: 12/32" in line
    assert "12/12" in line


def test_no_line_of_the_explanation_is_broken() -> None:
    panel = explanation("http://localhost:8080", 1, "http://localhost:9090", Path("/srv/demo"))
    lines = printed(panel)
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) == str(panel.renderable).count("\n") + 3
