"""A jobs database that is damaged or cannot be reached, in one sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from eacps.errors import EacpsError
from eacps.log import masked
from eacps.settings import Settings

LONGEST = 300


class DatabaseUnreadableError(EacpsError):
    """The jobs database cannot be read or written."""

    code = "database_failed"


@contextmanager
def readable_database(settings: Settings, hint: str = "") -> Iterator[None]:
    """Turn errors of the jobs database into a sentence, whatever the driver calls them."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    # Broken pages may also hold text that is not UTF-8.
    except (SQLAlchemyError, sqlite3.Error, UnicodeDecodeError) as error:
        own = settings.resolved_database_url.removeprefix("sqlite:///")
        where = "" if settings.database_url else f" {own}"
        # Only the driver's first line: SQLAlchemy adds the statement and its values.
        lines = masked(str(getattr(error, "orig", None) or error)).strip().split("\n")
        reason = "it holds text that is not UTF-8" if _is_text(error) else lines[0][:LONGEST]
        raise DatabaseUnreadableError(
            f"The jobs database{where} cannot be used: {reason.removesuffix('.')}.",
            hint=hint
            or "Check EACPS_DATABASE_URL or EACPS_DATA_DIR; if the database is damaged, "
            "restore a backup.",
        ) from error


def _is_text(error: Exception) -> bool:
    return isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error)
