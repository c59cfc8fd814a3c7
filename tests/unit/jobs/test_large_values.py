"""Large values of a job are files, and its row is small."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from eacps.artifacts import ArtifactStore, MissingArtifactError, open_store
from eacps.domain import from_json, to_json
from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, open_engine, prepare
from eacps.jobs.large_values import LARGEST, abbreviated, with_large_values, without_large_values
from eacps.settings import Settings

PICTURE = "data:image/png;base64," + "iVBO" * 250_000
ORIGIN = {"task": 7, "origin": {"data": {"image": PICTURE, "prompt": "a hat"}}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path / "data")


@pytest.fixture
def client(settings: Settings) -> Iterator[JobClient]:
    client = JobClient(settings)
    yield client
    client.close()


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    engine = open_engine(prepare(settings))
    yield Records(engine)
    engine.dispose()


def row(records: Records, job: str) -> Any:
    name = names.job_workflow(job)
    return records.rows([name])[name].input


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20)
    | st.just("x" * (LARGEST + 1)) | st.just(list(range(3000))) | st.just([[0.5, 1]] * 2000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                               max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(origin=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_any_origin_comes_back_as_it_was(origin: dict[str, Any]) -> None:
    store = ArtifactStore("memory://large-values")
    job = Job("a", origin)
    slim = without_large_values(job, store.put)
    stored = from_json(Job, to_json(slim))
    assert with_large_values(stored, store) == job
    assert abbreviated(origin) == slim.origin
    assert abbreviated(slim.origin) == slim.origin
    assert without_large_values(slim, store.put) == slim


def test_a_row_holds_no_picture_and_says_where_it_is(
    client: JobClient, records: Records, settings: Settings
) -> None:
    job = Job("a", ORIGIN)
    assert client.submit(job)
    assert len(str(row(records, "a"))) < 1000
    status = client.status("a")
    assert status is not None
    assert status.origin["task"] == 7
    assert status.origin["origin"]["data"]["prompt"] == "a hat"
    assert with_large_values(from_json(Job, row(records, "a")), open_store(settings)) == job
    # The same picture for another job is stored once.
    client.submit(Job("b", {**ORIGIN, "task": 8}))
    assert len(list((settings.data_dir / "artifacts").rglob("*.json"))) == 1


def test_jobs_of_earlier_versions_hold_their_values_themselves(settings: Settings) -> None:
    earlier = from_json(Job, {"id": "a", "origin": ORIGIN, "priority": 1})
    assert with_large_values(earlier, open_store(settings)) is earlier


def test_a_store_that_is_away_costs_no_job(
    client: JobClient, records: Records, settings: Settings
) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    (settings.data_dir / "artifacts").write_text("not a folder")
    assert client.submit(Job("a", ORIGIN))
    assert row(records, "a")["origin"] == ORIGIN


def test_a_value_lives_as_long_as_its_job(client: JobClient, settings: Settings) -> None:
    client.submit(Job("a", ORIGIN))
    client.cancel("a")
    store, later = open_store(settings), time.time() + 100 * 86_400
    [name] = client.needed_files()
    assert store.prune(31 * 86_400, later, keep=client.needed_files()) == 0
    assert client.retry("a")
    assert client.needed_files() == {name}
    client.cancel("a")
    assert client.prune(days=0) == 1
    assert store.prune(31 * 86_400, later, keep=client.needed_files()) == 1


def test_submitting_again_heals_a_lost_value(
    client: JobClient, records: Records, settings: Settings
) -> None:
    job = Job("a", ORIGIN)
    client.submit(job)
    [path] = (settings.data_dir / "artifacts").rglob("*.json")
    path.unlink()
    slim = from_json(Job, row(records, "a"))
    with pytest.raises(MissingArtifactError):
        with_large_values(slim, open_store(settings))
    assert with_large_values(slim, open_store(settings), all_of_them=False).id == "a"
    assert not client.submit(job)
    assert with_large_values(slim, open_store(settings)) == job


def test_a_text_that_looks_like_a_reference_reads_no_file(settings: Settings) -> None:
    store = open_store(settings)
    name = store.put(b'"a secret"', "json")
    job = Job("a", {"image": f"(stored as {name})"})
    assert with_large_values(without_large_values(job, store.put), store) == job


def test_the_size_of_the_database_follows_from_the_number_of_jobs_alone(
    client: JobClient, records: Records
) -> None:
    client.submit_many([Job(f"{each}", ORIGIN) for each in range(20)])
    given_ = records.tables.input
    query = sa.select(sa.func.sum(sa.func.length(given_.c.inputs)))
    with records.engine.connect() as connection:
        assert connection.execute(query).scalar_one() < 20 * 1000
