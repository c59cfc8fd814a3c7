"""Enqueues workflows in the transactions of others."""

from __future__ import annotations

from dbos import DBOSClient

from eacps.jobs import names
from eacps.jobs.codec import JsonSerializer
from eacps.jobs.database import Records


def open_client(records: Records) -> DBOSClient:
    """A client of DBOS on our connections."""
    return DBOSClient(
        system_database_engine=records.engine,
        serializer=JsonSerializer(),
        application_name=names.APPLICATION,
        lazy=True,
    )
