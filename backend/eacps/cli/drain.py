"""`eacps drain`: empties a machine before an upgrade."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from eacps.cli.loading import load_quietly
from eacps.cli.printing import out

if TYPE_CHECKING:
    from eacps.jobs.drain import Drain, Left


def drain(
    host: Annotated[
        str,
        typer.Argument(
            metavar="[HOST]", help="The machine's EACPS_HOST_NAME or host name. Default: this one."
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait at most this long. 0: no limit.")
    ] = 0.0,
) -> None:
    """Let a machine finish what it does and stop, for example before an upgrade.

    Its workers finish their batches, its orchestrator finishes deliveries, and both take nothing
    new. Other machines go on. Exit code 0: the machine is idle. Exit code 1: --timeout has passed,
    and it goes on draining.

    Examples:

        eacps drain

        eacps drain gpu-1 --timeout 600
    """
    from eacps.jobs.drain import Drain, hosts, unfinished_jobs
    from eacps.jobs.launch import open_records
    from eacps.offline.database import readable_database

    settings = load_quietly()
    name = host or settings.host_name or socket.gethostname()
    with readable_database(settings):
        records = open_records(settings, connections=1)
        draining = Drain(records, name, settings.stale_after_seconds)
        if not draining.ask():
            others = ", ".join(hosts(records))
            _say(f"Nothing is running on {name}." + (f" Running: {others}." if others else ""))
            return
        if not _followed(draining, timeout):
            _say(f"{name} is still draining after {timeout:g} s.")
            raise SystemExit(1)
        _say(f"{name} has drained.{_continued(unfinished_jobs(records))}")


def _continued(jobs: int) -> str:
    if not jobs:
        return ""
    words = "1 unfinished job continues" if jobs == 1 else f"{jobs} unfinished jobs continue"
    return f" {words} on other machines, or at the next start."


def _followed(draining: Drain, timeout: float) -> bool:
    """Print what changes until nothing is left; False if the time is over before."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    before: dict[str, Left] = {}
    for left in draining.progress():
        now = {each.name: each for each in left}
        for name in before.keys() - now.keys():
            _say(f"{name}: {'does not answer' if name in draining.silent else 'stopped'}")
        for name, each in now.items():
            if each != before.get(name):
                _say(f"{name}: {_words(each)}")
        before = now
        if left and time.monotonic() > deadline:
            return False
    return True


def _words(left: Left) -> str:
    kind = "batch" if left.role == "worker" else "delivery"
    if not left.unfinished:
        return "draining"
    plural = {"batch": "batches", "delivery": "deliveries"}[kind]
    return f"draining, {left.unfinished} {kind if left.unfinished == 1 else plural} left"


def _say(text: str) -> None:
    out.print(escape(text), highlight=False, soft_wrap=True)
