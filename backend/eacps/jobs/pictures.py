"""An index of rendered pictures in the jobs database, shared by all workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from eacps.domain import from_json, to_json
from eacps.jobs.database import Records, chunks
from eacps.jobs.outages import outlasting
from eacps.runner import Picture


class StoredPictures:
    """Pictures by key. Retention counts from an entry's last use."""

    def __init__(self, records: Records) -> None:
        self._records = records

    @outlasting
    def known(self, keys: Iterable[str]) -> Mapping[str, Picture]:
        """The pictures of these keys that were rendered before."""
        table = self._records.tables.pictures
        found: dict[str, Picture] = {}
        with self._records.engine.begin() as connection:
            for chunk in chunks(keys):
                query = sa.select(table.c.key, table.c.content).where(table.c.key.in_(chunk))
                for key, content in connection.execute(query):
                    found[key] = from_json(Picture, json.loads(content))
            if found:
                used = sa.update(table).where(table.c.key.in_(list(found)))
                connection.execute(used.values(used=time.time()))
        return found

    @outlasting
    def remember(self, pictures: Mapping[str, Picture]) -> None:
        """Store pictures under their keys, replacing existing ones."""
        table = self._records.tables.pictures
        moment = time.time()
        rows = [
            {"key": key, "content": json.dumps(to_json(picture)), "used": moment}
            for key, picture in pictures.items()
        ]
        if not rows:
            return
        with self._records.engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.key.in_(list(pictures))))
            connection.execute(sa.insert(table), rows)


def delete_pictures(records: Records, connection: sa.Connection, before: float) -> None:
    """Delete the entries of pictures that were last used before this time."""
    table = records.tables.pictures
    connection.execute(sa.delete(table).where(table.c.used < before))
