"""Parts of `eacps run` that need no models: which jobs are waited for, and which are given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, open_engine, prepare
from eacps.offline.deliveries import open_deliveries
from eacps.offline.run import _cancel_superseded, _missing_throughout, at_home
from eacps.settings import load_settings


def test_jobs_of_an_interrupted_run_for_the_same_names_are_cancelled(tmp_path: Path) -> None:
    client = JobClient(at_home(load_settings(), tmp_path))
    old, wanted = Job("1-bear", {"name": "bear"}), Job("2-bear", {"name": "bear"})
    other = Job("3-cat", {"name": "cat"})
    client.submit_many([old, wanted, other])
    _cancel_superseded(client, [wanted])
    states = {status.id: status.state for status in client.list()}
    assert states == {"1-bear": "cancelled", "2-bear": "queued", "3-cat": "queued"}
    client.close()


def test_an_outcome_is_pending_until_its_delivery_has_ended(tmp_path: Path) -> None:
    settings = at_home(load_settings(), tmp_path)
    client = JobClient(settings)
    client.submit_many([Job(each, {}) for each in ("a", "b", "c")])
    client.close()
    records = Records(open_engine(prepare(settings)))
    status = records.tables.status
    with records.engine.begin() as connection:
        # As if these were deliveries: one waits, one has ended, and of one nothing is known.
        for job, state in (("a", "ENQUEUED"), ("b", "SUCCESS")):
            connection.execute(
                sa.update(status)
                .where(status.c.workflow_uuid == names.job_workflow(job))
                .values(workflow_uuid=names.delivery_workflow(job), status=state)
            )
    with open_deliveries(settings) as deliveries:
        assert deliveries.pending({"a", "b", "c"}) == {"a"}
        assert deliveries.pending({f"{number}" for number in range(2000)}) == set()
    records.engine.dispose()


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ([["pf missing: no weights", "x"], ["pf missing: no weights"]], ["pf: no weights"]),
        ([["pf missing: no weights"], []], []),
        ([["rendered at 512 px"], ["rendered at 512 px"]], []),
        ([None, []], []),
        ([], []),
    ],
)
def test_a_scorer_that_failed_throughout_is_said(notes: list[Any], said: list[str]) -> None:
    failed = {"failure": {"code": "editor_failed"}, "notes": []}
    candidates = [*({"notes": each, "failure": None} for each in notes), failed]
    assert _missing_throughout({"candidates": candidates}) == said
