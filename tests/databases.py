"""Empty databases for tests: SQLite, and PostgreSQL where a server is at hand."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")
"""A server on which tests may create databases."""


def new_postgres() -> str:
    """The address of a database that does not exist yet."""
    server = sa.make_url(POSTGRES)
    name = f"test_{uuid.uuid4().hex[:12]}"
    return server.set(database=name).render_as_string(hide_password=False)


def new_sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'jobs.sqlite'}"


def each_database() -> list[object]:
    """Parameters of a fixture; each makes the address of an empty database."""
    missing = pytest.mark.skipif(not POSTGRES, reason="EACPS_TEST_POSTGRES_URL names no server")
    return [
        pytest.param(new_sqlite, id="sqlite"),
        pytest.param(lambda _: new_postgres(), id="postgres", marks=missing),
    ]
