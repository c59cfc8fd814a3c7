"""How the commands print: on two consoles, findings with a coloured mark, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from eacps.demo_defaults import demo_defaults_in_use
from eacps.settings import Settings

COLORS = {"ok": "green", "changed": "cyan", "warn": "yellow", "fail": "red"}
SYMBOLS = {"ok": "✓", "changed": "+", "warn": "!", "fail": "✗"}

out = Console()
err = Console(stderr=True)


def print_finding(level: str, text: str) -> None:
    """One line that begins with the mark of its level: ok, changed, warn or fail."""
    out.print(f"[{COLORS[level]}]{SYMBOLS[level]} {level:7}[/]", end=" ")
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """One line of JSON, at once: another program may be reading."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def warn_of_demo_defaults(settings: Settings) -> None:
    """Say what of the demo is in use with an editor that is not the demo's."""
    for words in demo_defaults_in_use(settings):
        err.print(f"[yellow]Note:[/] {escape(words)}", highlight=False, soft_wrap=True)
