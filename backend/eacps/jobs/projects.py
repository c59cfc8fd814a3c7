"""What is remembered of projects in the jobs database."""

from __future__ import annotations

import sqlalchemy as sa

from eacps.jobs.database import Records, exclusive_transaction

PROJECTS_LOCK = 7_262_117


def extra_params(records: Records, project: str) -> str:
    """The extra parameters of a project's ML backend, as JSON; an empty string without any."""
    table = records.tables.projects
    query = sa.select(table.c.extra_params).where(table.c.name == project)
    with records.engine.connect() as connection:
        return str(connection.execute(query).scalar() or "")


def remember_extra_params(records: Records, project: str, content: str) -> bool:
    """Remember the extra parameters; returns whether they are others than before."""
    if extra_params(records, project) == content:
        return False
    table = records.tables.projects
    ours = table.c.name == project
    with exclusive_transaction(records.engine, PROJECTS_LOCK) as connection:
        changed = connection.execute(sa.update(table).where(ours).values(extra_params=content))
        if not changed.rowcount:
            connection.execute(sa.insert(table).values(name=project, extra_params=content))
    return True
