"""What was prepared for a task is the same for all workers, and stays after a crash."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.pictures import StoredPictures, delete_pictures
from eacps.runner import Picture
from eacps.settings import Settings
from tests.databases import each_database
from tests.patience import PATIENCE

WORKERS = 4


@pytest.fixture(params=each_database())
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    make: Callable[[Path], str] = request.param
    return Settings(_env_file=None, data_dir=tmp_path, database_url=make(tmp_path))


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    records = Records(open_engine(prepare(settings)))
    yield records
    records.engine.dispose()


def test_the_first_content_counts_for_all(records: Records) -> None:
    one, two = StoredPictures(records), StoredPictures(records)
    assert one.recall("key") is None
    assert one.keep_first("key", {"questions": ["Is it red?"]}) == {"questions": ["Is it red?"]}
    assert two.keep_first("key", {"questions": ["Is it blue?"]}) == {"questions": ["Is it red?"]}
    assert two.recall("key") == {"questions": ["Is it red?"]}
    assert two.recall("another key") is None


def test_workers_that_keep_at_the_same_time_agree(settings: Settings) -> None:
    url = prepare(settings)
    together = threading.Barrier(WORKERS)

    def keep(number: int) -> int:
        records = Records(open_engine(url))
        try:
            stored = StoredPictures(records)
            together.wait(PATIENCE)
            return int(stored.keep_first("key", number))
        finally:
            records.engine.dispose()

    with ThreadPoolExecutor(WORKERS) as pool:
        assert len(set(pool.map(keep, range(WORKERS)))) == 1


def test_it_is_no_picture_and_expires_as_they_do(records: Records) -> None:
    stored = StoredPictures(records)
    stored.keep_first("key", "prepared")
    stored.remember({"key": Picture("i.png", "t.jpg")})
    assert stored.known(["key"]) == {"key": Picture("i.png", "t.jpg")}
    assert stored.recall("key") == "prepared"
    with records.engine.begin() as connection:
        delete_pictures(records, connection, time.time() + 60)
    assert stored.recall("key") is None
