"""Processes without work leave the database alone, and begin as soon as there is work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.chaos import jobs_play
from tests.chaos.jobs_play import job
from tests.chaos.stage import Stage
from tests.databases import each_database

SETTLING_SECONDS = 15.0
QUIET_SECONDS = 20.0
TRANSACTIONS_A_SECOND = 3


@pytest.fixture(params=each_database())
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Processes that never check the database without a reason."""
    address: Callable[[Path], str] = request.param
    stage = Stage(tmp_path, address(tmp_path), variables={jobs_play.CHECKS: "36000"})
    try:
        yield stage
    finally:
        stage.close()


def transactions(database: str) -> int:
    url = sa.make_url(database).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    query = (
        "SELECT xact_commit + xact_rollback FROM pg_stat_database"
        " WHERE datname = current_database()"
    )
    with engine.connect() as connection:
        number = connection.exec_driver_sql(query).scalar_one()
    engine.dispose()
    return int(number)


def test_work_begins_without_anybody_asking_for_it(stage: Stage) -> None:
    """Each queue, each batch and each end of a wait is woken by the database alone."""
    for name in ("first", "second"):
        stage.client.submit(job(name))
        stage.until_delivered(name)
        stage.assert_delivered_once(name)


def test_whoever_has_no_work_asks_the_database_little(stage: Stage) -> None:
    if stage.settings.database_url.startswith("sqlite"):
        pytest.skip("SQLite is not asked, only its counter of changes is read")
    stage.client.submit(job("before"))
    stage.until_delivered("before")
    processes = len(stage.client.workers())
    # PostgreSQL counts what a process did when that process does something again, or after 10 s.
    time.sleep(SETTLING_SECONDS)
    before, began = transactions(stage.settings.database_url), time.monotonic()
    time.sleep(QUIET_SECONDS)
    asked = transactions(stage.settings.database_url) - before
    # A slow machine asks less, never more.
    assert asked <= TRANSACTIONS_A_SECOND * processes * (time.monotonic() - began)
