"""Runs the command in this process, with a clean environment and a separate folder."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Printed:
    """What one command left behind."""

    code: int
    out: str
    err: str


Eacps = Callable[..., Printed]


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("EACPS_", "LABEL_STUDIO_", "BASIC_AUTH", "CUDA_VISIBLE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def eacps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Eacps:
    """Run `eacps` with these arguments."""
    from eacps.cli import main

    def run(*arguments: str) -> Printed:
        monkeypatch.setattr(sys, "argv", ["eacps", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        # As Python ends: a text is shown, and is an error.
        code = end.value.code
        if isinstance(code, str):
            return Printed(1, captured.out, f"{captured.err}{code}\n")
        return Printed(code or 0, captured.out, captured.err)

    return run
