"""When something that was given away was revoked, by scope. What a scope is, callers decide."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from eacps.jobs.database import Records, chunks, exclusive_transaction, now


def revoke(records: Records, scope: str) -> float:
    """Note that a scope is revoked now; returns the moment."""
    table, moment = records.tables.revocations, now()
    with exclusive_transaction(records.engine) as connection:
        connection.execute(sa.delete(table).where(table.c.scope == scope))
        connection.execute(sa.insert(table).values(scope=scope, moment=moment))
    return moment


def revoked(records: Records, scopes: Iterable[str]) -> dict[str, float]:
    """The moments at which scopes were revoked last."""
    table = records.tables.revocations
    found: dict[str, float] = {}
    with records.engine.connect() as connection:
        for chunk in chunks(scopes):
            query = sa.select(table.c.scope, table.c.moment).where(table.c.scope.in_(chunk))
            found.update((row.scope, row.moment) for row in connection.execute(query))
    return found
