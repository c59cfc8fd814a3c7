"""`eacps doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TextColumn

from eacps.cli.loading import load_quietly
from eacps.cli.printing import err, out, print_finding
from eacps.offline.progress import progress_bar

if TYPE_CHECKING:
    from eacps.doctor import Finding
    from eacps.settings import Settings


def doctor(
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also read the whole database and every stored file that a job needs or a task "
            "shows. This changes nothing; Ctrl-C stops it. With 10,000 jobs it takes minutes.",
        ),
    ] = False,
) -> None:
    """Check machine, weights, database, store and Label Studio, and say what to do.

    Exit code 1: something must be fixed first.

    Examples:

        eacps doctor

        eacps doctor --deep     # after a crash of a disk, or when a backup was restored
    """
    settings = load_quietly()
    counts: Counter[str] = Counter()
    for finding in _findings(settings, deep=deep):
        counts[finding.state] += 1
        print_finding(finding.state, f"{finding.subject}: {finding.message}")
    out.print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} to fix.")
    raise SystemExit(1 if counts["fail"] else 0)


def _findings(settings: Settings, *, deep: bool) -> Iterator[Finding]:
    from eacps.doctor import examine, examine_deeply

    yield from examine(settings)
    if deep:
        with _shown_progress() as show:
            yield from examine_deeply(settings, show)


@contextmanager
def _shown_progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar that appears when the first files were read."""
    bar = progress_bar(err, TextColumn("{task.completed:,.0f}/{task.total:,.0f} files"))
    row = None

    def show(done: int, total: int) -> None:
        nonlocal row
        if row is None:
            bar.start()
            row = bar.add_task("reading stored files", total=total)
        bar.update(row, completed=done)
        if done == total:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()
