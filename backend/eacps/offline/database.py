"""A jobs database that is damaged or cannot be reached, in one sentence."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from eacps.errors import EacpsError
from eacps.log import masked
from eacps.settings import Settings

LONGEST = 300
_DAMAGED = (UnicodeDecodeError, json.JSONDecodeError, ValidationError)
"""What broken pages may lead to: text that is not UTF-8, not JSON, or not what was stored."""


class DatabaseUnreadableError(EacpsError):
    """The jobs database cannot be read or written."""

    code = "database_failed"


@contextmanager
def readable_database(settings: Settings, hint: str = "") -> Iterator[None]:
    """Turn errors of the jobs database into a sentence, whatever the driver calls them."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except EacpsError as error:
        if not hint or error.code != DatabaseUnreadableError.code:
            raise
        raise DatabaseUnreadableError(error.message, hint=_remedy(error.message, hint)) from error
    except (SQLAlchemyError, sqlite3.Error, *_DAMAGED) as error:
        own = settings.resolved_database_url.removeprefix("sqlite:///")
        where = "" if settings.database_url else f" {own}"
        # Only the driver's first line: SQLAlchemy adds the statement and its values.
        lines = masked(str(getattr(error, "orig", None) or error)).strip().split("\n")
        damaged = isinstance(error, _DAMAGED) or "decode to UTF-8" in str(error)
        reason = "its content is damaged" if damaged else lines[0][:LONGEST]
        raise DatabaseUnreadableError(
            f"The jobs database{where} cannot be used: {reason.removesuffix('.')}.",
            hint=_remedy(reason, hint),
        ) from error


def _remedy(reason: str, hint: str) -> str:
    if "full" in reason:
        return "Make room, and run the same command again."
    return hint or (
        "Check EACPS_DATABASE_URL or EACPS_DATA_DIR; if the database is damaged, restore a backup."
    )
