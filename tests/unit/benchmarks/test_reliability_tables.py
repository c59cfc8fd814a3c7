"""The tables of docs/reliability.md are what the raw results say."""

from __future__ import annotations

import re

from benchmarks import reliability_tables as tables

PAGE = tables.PAGE.read_text()


def test_every_table_of_the_page_is_generated_from_the_results() -> None:
    assert tables.with_tables(PAGE) == PAGE, "run `python -m benchmarks.reliability_tables`"


def test_the_page_has_every_table_once() -> None:
    assert sorted(re.findall(r"<!-- table: (\w+) -->", PAGE)) == sorted(tables.TABLES)


def test_no_run_that_is_reported_lost_or_doubled_anything() -> None:
    runs = tables.rows(tables.FAULTS)
    assert sum(run["kills"] for run in runs) >= 500
    for run in runs:
        assert not run["problems"], run["problems"][:3]
        assert run["lost"] == run["doubled"] == 0
    for row in tables.rows(tables.HOSTILE):
        assert not row["crashes"]
        assert not row["server errors"]
