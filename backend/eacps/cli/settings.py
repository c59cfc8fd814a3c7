"""`eacps settings`: the table of settings for a terminal, or as Markdown."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated

import typer
from rich.markup import escape

from eacps.cli.loading import load_quietly
from eacps.cli.printing import out
from eacps.options import Parameter, shown
from eacps.settings import Settings
from eacps.settings_table import SettingRow, is_secret, settings_table

MARKDOWN_HEAD = """# Settings

Environment variables, or the same names in a file `.env` in the folder where `eacps` is started;
the environment wins. `eacps settings` shows the values in force and where each comes from. A
variable that begins with `EACPS_` and is none of these is refused, and so is a line of `.env` that
cannot be read.

Settings marked * change results, and with them the model version. Tasks that come in from then on
are searched with the new ones; finished tasks keep their result until `eacps search-again` asks
for another.
"""


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As Markdown tables with the defaults, for docs.")
    ] = False,
) -> None:
    """Every setting, its value, where it came from, and what it does.

    A star marks the settings that change results, and with them the model version.
    """
    loaded = load_quietly()
    groups = groupby(settings_table(loaded), key=lambda row: row.group)
    if markdown:
        parts = [MARKDOWN_HEAD, *(_markdown_group(group, rows) for group, rows in groups)]
        sys.stdout.write("\n".join(parts))
        return
    for group, rows in groups:
        out.print(f"\n[bold]{group}[/]")
        for row in rows:
            _print_setting(row)
    _print_plugins(loaded)


def _print_plugins(loaded: Settings) -> None:
    from eacps.plugins import label, options_for, written_options
    from eacps.plugins_in_use import check, plugins_in_use

    check(loaded)
    for each in plugins_in_use(loaded):
        name = each.source.name
        out.print(
            f"\n[bold]Plug-in {escape(label(name))}[/] ({each.kind}, {escape(each.source.origin)})"
        )
        if not each.options:
            continue
        options = options_for(each.plugin, name, each.kind, loaded)
        values = shown(options, written_options(name, loaded))
        for option in each.options:
            _print_option(option, values[option.name])


def _print_option(option: Parameter, value: str) -> None:
    hidden = not option.secret and is_secret(option.name, value)
    text = "***" if hidden else escape(value) or "[dim]empty[/]"
    line = f"  [green]{escape(option.name)}[/] = {text}"
    out.print(f"{line}  [dim]{escape(option.allowed)}[/]", highlight=False, soft_wrap=True)
    if option.help:
        out.print(f"      [dim]{escape(option.help)}[/]", highlight=False)


def _markdown_group(group: str, rows: Iterable[SettingRow]) -> str:
    lines = [f"## {group}", "", "| variable | default | what it does |", "|---|---|---|"]
    for row in rows:
        names = " or ".join(f"`{name}`" for name in (row.variable, *row.aliases))
        default = f"`{row.default}`" if row.default.strip() else ""
        star = " \\*" if row.changes_results else ""
        cells = (f"{names}{star}", default, row.help)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _print_setting(row: SettingRow) -> None:
    star = "[magenta]*[/]" if row.changes_results else " "
    origin = "" if row.origin == "default" else f"  [cyan]← {escape(row.origin)}[/]"
    value = escape(row.value) if row.value.strip() else "[dim]empty[/]"
    out.print(f"{star} [green]{row.variable}[/] = {value}{origin}", highlight=False, soft_wrap=True)
    also = f" Also: {', '.join(row.aliases)}." if row.aliases else ""
    for line in textwrap.wrap(row.help + also, min(out.width, 100) - 6):
        out.print(f"      [dim]{escape(line)}[/]", highlight=False)
