"""The commands, in the order of `eacps --help`, and the printing of errors."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from eacps import __version__
from eacps.cli.demo import demo
from eacps.cli.doctor import doctor
from eacps.cli.drain import drain
from eacps.cli.faces import face_models, faceswap
from eacps.cli.jobs import jobs_app
from eacps.cli.judge import judge_app, rescore
from eacps.cli.labelstudio import connect, disconnect, export, label_config, search_again
from eacps.cli.panel import panel_app
from eacps.cli.printing import err, out
from eacps.cli.run import collage, offline_workers, run
from eacps.cli.serve import serve, worker
from eacps.cli.settings import settings
from eacps.errors import EacpsError

EXAMPLES = """
To get started:

    eacps doctor                                   check the installation

    eacps run --image a.png --prompt "add a hat" --out results

    eacps serve                                    web server and workers

    eacps connect --project 7                      in another terminal
"""

app = typer.Typer(
    help="Search noises for the best image edit, and review it in Label Studio.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(demo)
app.command()(serve)
app.command()(worker)
app.command()(drain)
app.command()(run)
app.command()(collage)
app.command()(rescore)
app.command()(faceswap)
app.command()(face_models)
app.command(hidden=True)(offline_workers)
app.command()(doctor)
app.command()(connect)
app.command()(disconnect)
app.command()(search_again)
app.command()(export)
app.command()(label_config)
app.command()(settings)
app.add_typer(jobs_app, name="jobs")
app.add_typer(panel_app, name="panel")
app.add_typer(judge_app, name="judge")


def main() -> None:
    """Run the command; an EacpsError is printed as one line without a stack trace."""
    try:
        app()
    except EacpsError as error:
        message = escape(f"({error.code}): {error}")
        err.print(f"[red]Error[/] {message}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Settings come from `EACPS_*` variables or `.env`; `eacps settings` shows them all."""
