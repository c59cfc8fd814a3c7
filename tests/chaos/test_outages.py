"""What we depend on goes away and comes back: every job still reaches its one true outcome."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.chaos.jobs_play import job
from tests.chaos.postgres import Postgres, has_postgres
from tests.chaos.stage import CANDIDATES, SECOND_ROUND, Stage

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if not has_postgres():
        pytest.skip("no PostgreSQL server programs here: apt-get install postgresql")
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"), postgres.url, batch_timeout=600)
    try:
        yield stage
    finally:
        stage.close()


def log_length(stage: Stage) -> int:
    return len((stage.folder / "log.txt").read_text())


def submit_in_order(stage: Stage, names: Sequence[str], size: int = 1) -> None:
    """The first is halfway before the others come, which could hold all workers."""
    stage.client.submit(job(names[0], hold=SECOND_ROUND, size=size))
    stage.until_halfway(names[0])
    stage.client.submit_many([job(name, hold=SECOND_ROUND, size=size) for name in names[1:]])


def assert_true_outcomes(stage: Stage, *names: str) -> None:
    """Each was delivered once, whole; the outage is nobody's result."""
    stage.until_delivered(*names)
    for name in names:
        stage.assert_delivered_once(name)


def test_a_database_that_crashes_and_comes_back_costs_nothing(
    on_postgres: Stage, postgres: Postgres
) -> None:
    stage = on_postgres
    names = [f"crash-{number}" for number in range(6)]
    submit_in_order(stage, names)
    before = log_length(stage)
    postgres.crash()
    # Everybody who works has met the outage, the batches that end in it as well.
    for name in names:
        stage.release(name)
    stage.until(lambda: log(stage, before).count("waiting: the jobs database is away") >= 3)
    postgres.resume()
    assert_true_outcomes(stage, *names)
    for name in names:
        stage.assert_rendered_once(name)


def test_a_database_that_is_read_only_for_a_while_costs_nothing(
    on_postgres: Stage, postgres: Postgres
) -> None:
    stage = on_postgres
    names = [f"readonly-{number}" for number in range(4)]
    submit_in_order(stage, names)
    before = log_length(stage)
    postgres.set_read_only(True)
    for name in names:
        stage.release(name)
    stage.until(lambda: "read-only" in log(stage, before))
    postgres.set_read_only(False)
    assert_true_outcomes(stage, *names)


def log(stage: Stage, start: int) -> str:
    return (stage.folder / "log.txt").read_text()[start:]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB that this test alone fills."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use up all space; returns the file to delete to free it."""
    ballast = folder / "ballast"
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    size = MEGABYTE
    while size:
        try:
            os.write(descriptor, b"x" * size)
        except OSError:
            size //= 2
    os.close(descriptor)
    return ballast


def test_a_full_disk_is_a_pause(tmp_path: Path, small_disk: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    stage = Stage(notes, "", data_dir=small_disk, batch_timeout=600)
    try:
        names = [f"full-{number}" for number in range(4)]
        submit_in_order(stage, names, size=200)
        ballast = fill(small_disk)
        for name in names:
            stage.release(name)
        stage.until(lambda: (notes / "log.txt").read_text().count("waiting: ") >= 3)
        ballast.unlink()
        assert_true_outcomes(stage, *names)
        assert not list(small_disk.rglob("*.part"))
        assert stage.status(names[0]).finished == CANDIDATES
    finally:
        stage.close()
