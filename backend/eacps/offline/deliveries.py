"""Which outcomes are still being written: a job has failed before its report is there."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from eacps.jobs import names
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.database import Records

AT_ONCE = 500


class Deliveries:
    """The deliveries of jobs."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def pending(self, jobs: Set[str]) -> set[str]:
        """Those of the jobs whose outcome is not written yet."""
        found: dict[str, str] = {}
        workflows = {names.delivery_workflow(job): job for job in jobs}
        waiting = iter(workflows)
        while part := list(islice(waiting, AT_ONCE)):
            found |= self._records.status(*part)
        return {workflows[name] for name in found if found[name] not in names.ENDED}


@contextmanager
def open_deliveries(settings: Settings) -> Iterator[Deliveries]:
    """Connect to the jobs database."""
    from eacps.jobs.database import Records, open_engine, prepare

    engine = open_engine(prepare(settings), pool_size=1)
    try:
        yield Deliveries(Records(engine))
    finally:
        engine.dispose()
