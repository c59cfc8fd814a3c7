"""A real orchestrator finds what was announced while no process of ours was there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from eacps.jobs.client import JobClient
from eacps.settings import Settings
from tests.patience import PATIENCE, wait_until
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio

BACKEND = "http://127.0.0.1:9"


def connect(site: RecordedLabelStudio) -> None:
    site.projects[1] = {"id": 1, "label_config": "<View/>"}
    hook = {"id": 1, "project": 1, "url": f"{BACKEND}/webhook", "is_active": True}
    site.webhooks = [{**hook, "send_for_all_actions": True, "created_at": moment()}]


def moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def announce_to_nobody(site: RecordedLabelStudio, number: int) -> None:
    task = site.add_task(number, {"image": "data:,no image", "prompt": "add a hat"})
    task |= {"created_at": moment(), "updated_at": moment()}


def reported(site: RecordedLabelStudio, number: int) -> bool:
    return "report_md" in site.tasks[number]["data"]


def test_tasks_that_were_announced_to_nobody_are_found_at_the_next_start(tmp_path: Path) -> None:
    with RecordedLabelStudio() as site:
        variables = {
            "EACPS_DATA_DIR": str(tmp_path),
            "EACPS_PUBLIC_URL": BACKEND,
            "LABEL_STUDIO_URL": site.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
        }
        client = JobClient(Settings(_env_file=None, data_dir=tmp_path))
        connect(site)
        for number in (7, 8):
            announce_to_nobody(site, number)
            with (tmp_path / "log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "eacps", "worker", "--orchestrator"],
                    cwd=tmp_path,
                    env={**os.environ, **variables},
                    stdout=log,
                    stderr=log,
                )
            try:
                wait_until(partial(reported, site, number), (tmp_path / "log").read_text)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)
        assert sorted(status.origin["task"] for status in client.list()) == [7, 8]
        # First its panel, then its report.
        assert [task for kind, task in site.writes if kind == "task"] == ["7", "7", "8", "8"]
        client.close()
