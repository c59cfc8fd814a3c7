"""`make demo HEADLESS=1`, as its command: everything from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.label_studio_server import label_studio_command
from tests.patience import PATIENCE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(label_studio_command() is None, reason="no Label Studio on this machine"),
]


def test_a_demo_from_nothing_checks_itself(tmp_path: Path, face_models: None) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_STUDIO_"))}
    program = str(label_studio_command())
    command = [sys.executable, "-m", "eacps", "demo", "--headless", "--count", "2"]
    done = subprocess.run(
        [*command, "--label-studio", program, "--folder", str(tmp_path / "demo")],
        env=kept, capture_output=True, text=True, timeout=3 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "4 tasks (2 bears, 2 face swaps), one prediction each" in said
