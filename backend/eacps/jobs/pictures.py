"""An index of rendered pictures in the jobs database, shared by all workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from eacps.domain import digest, from_json, to_json
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

    @outlasting
    def recall(self, key: str) -> Any:
        """What is kept under this key, or None."""
        table = self._records.tables.pictures
        with self._records.engine.begin() as connection:
            query = sa.select(table.c.content).where(table.c.key == _other_than_picture(key))
            content = connection.execute(query).scalar_one_or_none()
            if content is None:
                return None
            used = sa.update(table).where(table.c.key == _other_than_picture(key))
            connection.execute(used.values(used=time.time()))
        return json.loads(content)

    @outlasting
    def keep_first(self, key: str, content: Any) -> Any:
        """Keep content under a key unless something is kept there; return what is kept."""
        table = self._records.tables.pictures
        row = {"key": _other_than_picture(key), "content": json.dumps(content), "used": time.time()}
        with suppress(sa.exc.IntegrityError), self._records.engine.begin() as connection:
            connection.execute(sa.insert(table), row)
        found = self.recall(key)
        return content if found is None else found


def _other_than_picture(key: str) -> str:
    # In the same table, because it is as old as a task's pictures and expires with them.
    return digest({"prepared": key})


def delete_pictures(records: Records, connection: sa.Connection, before: float) -> None:
    """Delete the entries of pictures that were last used before this time."""
    table = records.tables.pictures
    connection.execute(sa.delete(table).where(table.c.used < before))
