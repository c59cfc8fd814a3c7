"""A short run of faults from a seed; `make chaos MINUTES=60` is the long one."""

from __future__ import annotations

import os

import pytest

from tests.chaos.faults.run import Plan, run
from tests.chaos.postgres import has_postgres

SEEDS = [int(seed) for seed in os.environ.get("EACPS_TEST_SEED", "1").split(",")]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_task_has_its_one_outcome_whatever_fails(database: str, seed: int) -> None:
    if database == "postgres" and not has_postgres():
        pytest.skip("no PostgreSQL server programs here: apt-get install postgresql")
    report = run(Plan(seed, database, minutes=1.0, pause=1.5, longest=8.0), print)
    assert report.numbers["kills"]
    assert not report.problems, report.explain()
