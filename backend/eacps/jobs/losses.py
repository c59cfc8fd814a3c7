"""Results whose pictures are gone or damaged: the job runs again, and renders only those."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from eacps.artifacts import DamagedArtifactError, MissingArtifactError
from eacps.domain import Failure, SearchResult, to_json
from eacps.jobs import names
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, exclusive_transaction
from eacps.jobs.enqueueing import open_client

log = logging.getLogger(__name__)

MOST_LOSSES: Final = 2
"""How often a job runs again because stored files were lost. A store that loses everything at once
must not keep the devices busy for ever."""
RESULT_GONE: Final = Failure("result_gone", "The result is no longer stored. Run the task again.")
_LOST: Final = (MissingArtifactError.code, DamagedArtifactError.code, RESULT_GONE.code)


def is_lost(failure: Mapping[str, Any] | None) -> bool:
    """Whether something failed because a stored file is gone or damaged."""
    return failure is not None and failure["code"] in _LOST


def shown(result: SearchResult) -> list[str]:
    """The names of the pictures that a result shows."""
    return [name for c in result.candidates for name in (c.image, c.thumbnail) if name]


def search_again(records: Records, job: Job) -> bool:
    """Run a job again whose delivery found that pictures are lost; False if it did so too often.

    The delivery that calls this is deleted with the job, in the same transaction, and DBOS lets it
    write nothing afterwards. So it must do nothing but end.
    """
    if job.losses >= MOST_LOSSES:
        return False
    again = replace(job, losses=job.losses + 1)
    client = open_client(records)
    workflow = names.job_workflow(job.id)
    with exclusive_transaction(records.engine) as connection:
        records.delete([workflow, names.delivery_workflow(job.id)], connection)
        options = names.enqueue_options(names.EDIT_TASK, workflow, job.priority)
        client.enqueue_in_transaction(connection, options, to_json(again))
    log.info("what is lost is rendered again")
    return True
