"""Output of the commands: consoles, findings with coloured symbols, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from eacps.demo_defaults import demo_defaults_in_use
from eacps.faces import readiness
from eacps.judge_advice import without_judge
from eacps.scoring import without_effect
from eacps.settings import Settings

COLORS = {
    **{"ok": "green", "changed": "cyan", "warn": "yellow", "fail": "red"},
    **{"plan": "cyan", "next": "bold"},
}
SYMBOLS = {"ok": "✓", "changed": "+", "warn": "!", "fail": "✗", "plan": "·", "next": "→"}

out = Console()
err = Console(stderr=True)


def print_finding(level: str, text: str) -> None:
    """Print a line that starts with its level: ok, plan, changed, warn, fail or next."""
    out.print(f"[{COLORS[level]}]{SYMBOLS[level]} {level:7}[/]", end=" ")
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Print a line of JSON, and flush it for programs that read it."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_notes(settings: Settings) -> None:
    """Warn of the demo's defaults with another editor, and of settings without effect."""
    idle = (*without_effect(settings), *readiness.without_effect(settings))
    for words in (*without_judge(settings), *demo_defaults_in_use(settings), *idle):
        err.print(f"[yellow]Note:[/] {escape(words)}", highlight=False, soft_wrap=True)
