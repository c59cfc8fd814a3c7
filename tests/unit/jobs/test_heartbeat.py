"""A heartbeat says how its process is, also while the jobs database is away."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa

from eacps.jobs.beats import Heartbeat, ProcessIdentity
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.outages import outages
from eacps.settings import Settings
from tests.patience import wait_until

TOO_OFTEN = 0.02


@pytest.fixture
def records(tmp_path: Path) -> Records:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    return Records(open_engine(prepare(settings)))


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away, met = [True], []

    def fail(*_: object) -> None:
        if away:
            met.append(outages.now())
            raise sa.exc.OperationalError("SELECT 1", {}, OSError("host 10.0.0.7 is away"))

    sa.event.listen(records.engine, "before_cursor_execute", fail)
    heartbeat = Heartbeat(ProcessIdentity("me", "worker", "cpu"), records, TOO_OFTEN)
    heartbeat.start()
    wait_until(lambda: len(met) > 3)
    assert set(met[1:]) == {"the jobs database is away"}
    away.clear()
    wait_until(lambda: not outages.now())
    heartbeat.stop()
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("waiting: the jobs database is away") == 1
    assert sum(message.startswith("going on, after") for message in messages) == 1
    assert "10.0.0.7" not in caplog.text
