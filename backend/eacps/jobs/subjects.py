"""Which jobs are about what, what they have made so far, and how many wait in front of them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from eacps.domain import Candidate, EditTask, SearchResult, from_json
from eacps.jobs import names
from eacps.jobs.contract import MOST_AHEAD, Job, JobStatus, Search
from eacps.jobs.database import Records, is_queued, now


def note_subjects(records: Records, jobs: Sequence[Job], connection: sa.Connection) -> None:
    """Note what new jobs are about, in the transaction that stores them."""
    table = records.tables.subjects
    rows = [
        {"subject": job.subject, "job": job.id, "created": now()} for job in jobs if job.subject
    ]
    if not rows:
        return
    # A job that was deleted, and is submitted again, may have left its note.
    connection.execute(sa.delete(table).where(table.c.job.in_([row["job"] for row in rows])))
    connection.execute(sa.insert(table), rows)


def forget_subjects(records: Records, jobs: Sequence[str], connection: sa.Connection) -> None:
    """Delete the notes about deleted jobs."""
    table = records.tables.subjects
    connection.execute(sa.delete(table).where(table.c.job.in_(jobs)))


def jobs_about(records: Records, subject: str, limit: int) -> list[str]:
    """The ids of the newest jobs about a subject, newest first."""
    table = records.tables.subjects
    query = (
        sa.select(table.c.job)
        .where(table.c.subject == subject)
        .order_by(table.c.created.desc(), table.c.job)
        .limit(limit)
    )
    with records.engine.connect() as connection:
        return list(connection.execute(query).scalars())


def ahead(records: Records, status: JobStatus) -> int | None:
    """How many others wait in front of a job, or of the search that it needs."""
    waiting = {"queued": names.job_workflow(status.id)}
    if status.key:
        waiting["running"] = names.search_workflow(status.key)
    workflow = waiting.get(status.state)
    return None if workflow is None else _ahead(records, workflow)


def _ahead(records: Records, workflow: str) -> int | None:
    table = records.tables.status
    own = sa.select(table.c.queue_name, table.c.priority, table.c.created_at).where(
        table.c.workflow_uuid == workflow, table.c.status.in_(names.QUEUED)
    )
    with records.engine.connect() as connection:
        row = connection.execute(own).first()
        if row is None:
            return None
        earlier = sa.and_(table.c.priority == row.priority, table.c.created_at < row.created_at)
        some = (
            sa.select(table.c.workflow_uuid)
            .where(
                is_queued(table),
                table.c.queue_name == row.queue_name,
                sa.or_(table.c.priority < row.priority, earlier),
            )
            # Counting all of a long queue would take longer than anybody needs to know it for.
            .limit(MOST_AHEAD)
            .subquery()
        )
        return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def search_of(records: Records, key: str) -> Search | None:
    """What is stored of a search."""
    name = names.search_workflow(key)
    row = records.rows([name]).get(name)
    if row is None:
        return None
    if row.good:
        result = from_json(SearchResult, row.output["result"])
        return Search(result.task, result, result.candidates)
    return Search(from_json(EditTask, row.input["task"]), None, _made(records, key))


def _made(records: Records, key: str) -> tuple[Candidate, ...]:
    """The candidates of the batches that have ended; of a trial that was paused and resumed, the
    last one."""
    with records.engine.connect() as connection:
        ended = [row for row in records.batches(key, connection) if row.good]
    found: dict[str, Candidate] = {}
    for row in sorted(ended, key=lambda row: row.completed or row.updated):
        for content in row.output["candidates"]:
            candidate = from_json(Candidate, content)
            found.pop(candidate.id, None)
            found[candidate.id] = candidate
    return tuple(found.values())
