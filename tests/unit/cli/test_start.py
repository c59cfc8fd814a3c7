"""The command answers at once: what it imports before it knows what to do stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import eacps as package

HEAVY = {"torch", "diffusers", "open_clip", "dbos", "sqlalchemy", "flask", "label_studio_sdk"}
SCRIPT = f"""
import sys
from eacps.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted({HEAVY} & set(sys.modules)))
"""


@pytest.mark.parametrize("words", ["--help", "run --help", "jobs --help", "settings"])
def test_help_and_settings_import_no_heavy_library(tmp_path: Path, words: str) -> None:
    sources = str(Path(package.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words.split()], env={"PYTHONPATH": sources},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
