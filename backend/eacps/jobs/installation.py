"""Which version made an installation, as its jobs database remembers."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from eacps.jobs.database import database_url, open_engine, prepare
from eacps.jobs.migration import FIRST_MADE_BY, INSTALLATION, MADE_BY
from eacps.settings import Settings

_SECURED = "secured"
_WORKERS = "eacps_workers"


def made_before_passwords(settings: Settings) -> bool:
    """Whether 0.1 made the jobs database, when no password was required. Changes nothing, and
    raises SQLAlchemy's errors if the database cannot be asked."""
    return _facts(settings).get(MADE_BY) == FIRST_MADE_BY


def may_lack_password(settings: Settings) -> bool:
    """Whether 0.1 made the installation, and it has not been started in a safe way since."""
    facts = _facts(settings)
    return facts.get(MADE_BY) == FIRST_MADE_BY and _SECURED not in facts


def note_secured(settings: Settings) -> None:
    """Remember that the installation was started in a safe way, which ends its exception."""
    if not may_lack_password(settings):
        return
    engine = open_engine(prepare(settings))
    with engine.begin() as connection:
        connection.execute(sa.delete(INSTALLATION).where(INSTALLATION.c.name == _SECURED))
        connection.execute(sa.insert(INSTALLATION).values(name=_SECURED, value="true"))
    engine.dispose()


def _facts(settings: Settings) -> dict[str, str]:
    url = database_url(settings)
    # Connecting to a missing SQLite file would create it.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return {}
    engine = open_engine(url)
    try:
        tables = sa.inspect(engine)
        if not tables.has_table(INSTALLATION.name):
            # This version notes itself when it makes the tables.
            return {MADE_BY: FIRST_MADE_BY} if tables.has_table(_WORKERS) else {}
        with engine.connect() as connection:
            return {row.name: row.value for row in connection.execute(sa.select(INSTALLATION))}
    except sa.exc.OperationalError as error:
        if "does not exist" in str(error.orig):
            return {}
        raise
    finally:
        engine.dispose()
