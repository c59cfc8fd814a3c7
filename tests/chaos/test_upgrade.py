"""A jobs database of 0.1, with work of every state in it, under this version.

`tests/fixtures/stored/0.1/jobs` was written by 0.1 with the demo's editor, in front of the
recording Label Studio of `tests/recorded_label_studio.py`; all of 0.1's processes were then killed.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from eacps.demo.tasks import demo_tasks
from eacps.jobs.client import JobClient
from eacps.jobs.database import Records, database_url, open_engine
from eacps.settings import Settings, load_settings
from tests.patience import PATIENCE
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio
from tests.stack import ROOT, wait_until

STORED = Path(__file__).parents[1] / "fixtures" / "stored" / "0.1" / "jobs"
POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")
PLACEHOLDER = "http://label-studio.example"
NUMBERS = {
    **{"done": 1, "failed": 2, "cancelled": 3, "delivering": 4, "preparing": 5},
    **{"searching": 6, "queued": 7, "queued too": 8},
}


@dataclass
class Upgraded:
    """The database, the Label Studio of then, and this version's processes."""

    site: RecordedLabelStudio
    settings: Settings
    jobs: dict[str, str]
    variables: dict[str, str]

    def __post_init__(self) -> None:
        self.client = JobClient(self.settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.settings.data_dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "eacps", "worker"],
                cwd=self.settings.data_dir, env=self.variables, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE)
        self.client.close()

    def log(self) -> str:
        return (self.settings.data_dir / "log").read_text(errors="replace")

    def state(self, name: str) -> str:
        status = self.client.status(self.jobs[name])
        assert status is not None, f"the job {name} is lost"
        return status.state

    def finished_batches(self) -> dict[str, float | None]:
        records = Records(open_engine(database_url(self.settings)))
        rows = [row for row in records.newest("batch", 1000) if row.status == "SUCCESS"]
        records.engine.dispose()
        return {row.id: row.completed for row in rows}


def text_of(name: str) -> str:
    return gzip.decompress((STORED / name).read_bytes()).decode()


def restored(database: str, folder: Path, url: str) -> str:
    """The stored database under a new name; Label Studio's address is today's."""
    if database == "sqlite":
        connection = sqlite3.connect(folder / "jobs.sqlite")
        connection.executescript(text_of("sqlite.sql.gz").replace(PLACEHOLDER, url))
        connection.close()
        return ""
    server = sa.make_url(POSTGRES).set(drivername="postgresql+psycopg")
    name = f"upgrade_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection_:
        connection_.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    engine = sa.create_engine(server.set(database=name), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection_:
        raw: Any = connection_.connection.driver_connection
        raw.execute(text_of("postgres.sql.gz").replace(PLACEHOLDER, url))
    engine.dispose()
    return sa.make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)


def site_of_then(site: RecordedLabelStudio) -> None:
    content = json.loads(text_of("label-studio.json.gz").replace(PLACEHOLDER, site.url))
    site.tasks = {int(number): task for number, task in content["tasks"].items()}
    site.predictions = content["predictions"]
    site.files = {int(number): (name, b"") for number, name in content["files"].items()}
    picture = io.BytesIO()
    demo_tasks(9, 77)[4].image.save(picture, "PNG")
    site.served["/data/upload/1/x.png"] = picture.getvalue()


@pytest.fixture(params=["sqlite", "postgres"])
def upgraded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Upgraded]:
    if request.param == "postgres" and not POSTGRES:
        pytest.skip("EACPS_TEST_POSTGRES_URL names no server")
    about = json.loads((STORED / "about.json").read_text())
    with tarfile.open(STORED / "artifacts.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    for path in (tmp_path / "artifacts").rglob("*"):
        path.touch()  # or retention would find them old
    with RecordedLabelStudio() as site:
        site_of_then(site)
        variables = {
            **{k: v for k, v in about["environment"].items() if not k.startswith("LABEL")},
            "EACPS_DATA_DIR": str(tmp_path),
            "EACPS_DATABASE_URL": restored(request.param, tmp_path, site.url),
            "EACPS_DEVICES": "cpu",
            "LABEL_STUDIO_URL": site.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        assert settings.model_version == about["model_version"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "backend"), "HF_HUB_OFFLINE": "1"}
        running = Upgraded(site, settings, about["jobs"], environment)
        try:
            yield running
        finally:
            running.stop()


def test_unfinished_work_of_01_reaches_its_end_and_finished_work_stays(upgraded: Upgraded) -> None:
    site = upgraded.site
    before = upgraded.finished_batches()
    assert before, "the dump holds no finished batch"
    delivered = {name: json.dumps(site.tasks[NUMBERS[name]]) for name in ("done", "failed")}
    upgraded.start()
    unfinished = [name for name in NUMBERS if name not in ("done", "failed", "cancelled")]
    wait_until(lambda: all(upgraded.state(name) == "done" for name in unfinished), upgraded.log)
    assert upgraded.state("done") == "done"
    assert upgraded.state("failed") == "failed"
    assert upgraded.state("cancelled") == "cancelled"
    for name, number in NUMBERS.items():
        wanted = 0 if name in ("failed", "cancelled") else 1
        assert len(site.predictions_of(number)) == wanted, name
    assert {n: json.dumps(site.tasks[NUMBERS[n]]) for n in delivered} == delivered
    assert ("task", "1") not in site.writes
    # What 0.1 had rendered was not rendered again: its batches are the same rows as before.
    after = upgraded.finished_batches()
    assert {name: after[name] for name in before} == before
    assert "Traceback" not in upgraded.log()


def test_only_what_01_never_heard_of_is_found_afterwards(upgraded: Upgraded) -> None:
    """Finished, failed and cancelled tasks of 0.1 get no second job, nor do older ones."""
    site = upgraded.site
    # The jobs are as old as the dump, and must be within the retention.
    upgraded.variables["EACPS_RETENTION_DAYS"] = "36500"
    site.projects[1] = {"id": 1, "label_config": "<View/>"}
    hook = {"id": 1, "project": 1, "url": "http://127.0.0.1:9090/webhook", "is_active": True}
    site.webhooks = [
        {**hook, "send_for_all_actions": True, "created_at": "2026-10-01T11:00:00.000000Z"}
    ]
    for number in NUMBERS.values():
        site.tasks[number]["updated_at"] = site.tasks[number]["created_at"]
    for number, hour in ((20, 10), (21, 13)):
        task = site.add_task(number, {"image": "data:,no image", "prompt": "add a hat"})
        stamp = f"2026-10-01T{hour}:00:00.000000Z"
        task |= {"created_at": stamp, "updated_at": stamp}
    upgraded.start()
    wait_until(lambda: "report_md" in site.tasks[21]["data"], upgraded.log)
    asked = Counter(status.origin["task"] for status in upgraded.client.list(100))
    assert asked == {**dict.fromkeys(NUMBERS.values(), 1), 21: 1}
    assert upgraded.state("cancelled") == "cancelled"
    assert upgraded.state("failed") == "failed"
