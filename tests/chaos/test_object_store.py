"""Pictures in a bucket: processes die, and the store goes away and loses everything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eacps.artifacts import open_store
from tests.chaos.jobs_play import job
from tests.chaos.stage import SECOND_ROUND, Stage
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.variables.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def stage(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    variables = {"EACPS_ARTIFACTS_URL": server.url}
    folder = tmp_path_factory.mktemp("stage")
    stage = Stage(folder, "", batch_timeout=600, variables=variables)
    try:
        yield stage
    finally:
        stage.close()


def assert_delivered_whole(stage: Stage, *names: str) -> None:
    """Each was delivered once, with pictures that exist."""
    stage.until_delivered(*names)
    store = open_store(stage.settings)
    for name in names:
        stage.assert_delivered_once(name)
        [delivery] = stage.deliveries(name)
        assert all(map(store.intact, delivery["images"])), name


@pytest.mark.parametrize("victim", ["device-0", "device-1", "orchestrator"])
def test_a_killed_process_costs_at_most_its_batch(stage: Stage, victim: str) -> None:
    name = f"killed-{victim}"
    stage.client.submit(job(name, hold=SECOND_ROUND))
    stage.until_halfway(name)
    stage.kill(victim)
    stage.release(name)
    assert_delivered_whole(stage, name)
    stage.assert_rendered_once(name)


def test_a_large_value_travels_through_the_bucket(stage: Stage, server: S3Server) -> None:
    stage.client.submit(job("large", filler="x" * 100_000))
    assert_delivered_whole(stage, "large")
    assert [line["filler"] for line in stage.lines("prepared") if line["job"] == "large"] == [
        100_000
    ]
    assert sum(key.endswith(".json") for key in server.names()) == 1


def test_a_store_that_goes_away_is_a_pause_and_what_it_lost_is_rendered_again(
    stage: Stage, server: S3Server
) -> None:
    names = [f"away-{number}" for number in range(3)]
    stage.client.submit(job(names[0], hold=SECOND_ROUND))
    stage.until_halfway(names[0])
    stage.client.submit_many([job(name, hold=SECOND_ROUND) for name in names[1:]])
    before = len((stage.folder / "log.txt").read_text())
    server.kill()
    for name in names:
        stage.release(name)
    stage.until(lambda: "waiting: The artifact store" in log(stage, before))
    server.start()
    assert_delivered_whole(stage, *names)
    assert not any("failure" in line for line in stage.lines("deliveries"))


def log(stage: Stage, start: int) -> str:
    return (stage.folder / "log.txt").read_text()[start:]
