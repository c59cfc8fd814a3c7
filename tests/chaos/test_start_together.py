"""Processes that start together on an empty database make its tables once, and all of them work."""

from __future__ import annotations

import multiprocessing
import os
import traceback
import uuid
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from eacps.jobs.contract import Job
from eacps.settings import Settings
from tests.patience import PATIENCE

POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")
PROCESSES, ROUNDS = 8, 10


def start(number: int, urls: list[str], together: Barrier, told: Any) -> None:
    """One process: in every round it waits for the others, then opens the queue and hands in a
    job of its own."""
    try:
        from eacps.jobs.client import JobClient

        for url in urls:
            client = JobClient(Settings(_env_file=None, database_url=url))
            together.wait(PATIENCE)
            assert client.submit(Job(f"job-{number}", {}))
            assert client.counts()["queued"] >= 1
            client.close()
        told.put((number, ""))
    except BaseException:
        together.abort()
        told.put((number, traceback.format_exc()))


def addresses(database: str, folder: Path) -> list[str]:
    if database == "sqlite":
        return [f"sqlite:///{folder / f'{index}.sqlite'}" for index in range(ROUNDS)]
    # None of them is there: the first to come makes the database itself, too.
    server = sa.make_url(POSTGRES)
    return [
        server.set(database=f"race_{uuid.uuid4().hex[:12]}").render_as_string(hide_password=False)
        for _ in range(ROUNDS)
    ]


def with_tables_of_dbos_only(url: str) -> None:
    """With nothing to wait for in DBOS, all processes reach our own tables in the same moment."""
    made = sa.make_url(url)
    if made.drivername == "postgresql":
        made = made.set(drivername="postgresql+psycopg")
    DBOS.migrate(made.render_as_string(hide_password=False))


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_eight_processes_at_once_ten_times(database: str, tmp_path: Path) -> None:
    if database == "postgres" and not POSTGRES:
        pytest.skip("EACPS_TEST_POSTGRES_URL names no server")
    urls = addresses(database, tmp_path)
    for url in urls[::2]:
        with_tables_of_dbos_only(url)
    spawn = multiprocessing.get_context("spawn")
    together, told = spawn.Barrier(PROCESSES), spawn.Queue()
    processes = [
        spawn.Process(target=start, args=(number, urls, together, told), daemon=True)
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    try:
        answers = dict(told.get(timeout=PATIENCE) for _ in processes)
    finally:
        for process in processes:
            process.join(30)
            process.kill()
    problems = [text for text in answers.values() if text and "BrokenBarrier" not in text]
    assert not problems, problems[0]
    assert answers == dict.fromkeys(range(PROCESSES), "")
