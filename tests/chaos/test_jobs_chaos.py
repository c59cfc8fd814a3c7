"""Real processes, a real database, kill -9: every job reaches its one outcome."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eacps.domain import Failure, SearchResult
from tests.chaos.jobs_play import job
from tests.chaos.stage import (
    CANDIDATES,
    EVERY_ROUND,
    SECOND_ROUND,
    Stage,
    is_alive,
    kill_process,
)
from tests.patience import PATIENCE

POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")


@pytest.fixture(scope="module", params=["sqlite", *(["postgres"] if POSTGRES else [])])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    database = ""
    if request.param == "postgres":
        database = f"{POSTGRES.rsplit('/', 1)[0]}/chaos_{uuid.uuid4().hex[:12]}"
    stage = Stage(folder, database)
    try:
        yield stage
    finally:
        stage.close()


@pytest.mark.parametrize("victim", ["device", "orchestrator"])
def test_a_killed_process_costs_no_finished_batch(stage: Stage, victim: str) -> None:
    name = f"killed-{victim}"
    stage.client.submit(job(name, hold=SECOND_ROUND))
    stage.until_halfway(name)
    for process in ["device-0", "device-1"] if victim == "device" else [victim]:
        stage.kill(process)
    stage.release(name)
    stage.until_delivered(name)
    stage.assert_rendered_once(name)
    stage.assert_delivered_once(name)


def test_everything_killed_at_once_goes_on_after_a_restart(stage: Stage) -> None:
    stage.client.submit_many([job(name, hold=SECOND_ROUND) for name in ("all-1", "all-2")])
    stage.until_halfway("all-1")
    for worker in stage.client.workers():
        kill_process(worker.pid)
    stage.supervisor.kill()
    stage.supervisor.wait()
    stage.release("all-1")
    stage.release("all-2")
    stage.supervisor = stage.play("supervisor", "2")
    stage.until_delivered("all-1", "all-2")
    for name in ("all-1", "all-2"):
        stage.assert_rendered_once(name)
        stage.assert_delivered_once(name)


def test_a_killed_supervisor_leaves_no_process_behind(stage: Stage) -> None:
    stage.until(lambda: len(stage.client.workers()) == 3)
    children = [worker.pid for worker in stage.client.workers()]
    stage.supervisor.kill()
    stage.supervisor.wait()
    stage.until(lambda: not any(is_alive(pid) for pid in children))
    stage.supervisor = stage.play("supervisor", "2")


def test_a_host_that_never_comes_back_loses_no_work(stage: Stage) -> None:
    lost = stage.play("worker", "0", EACPS_HOST_NAME="lost")
    stage.until(lambda: any(w.name == "lost/device-0" for w in stage.client.workers()))
    names = [f"host-{number}" for number in range(3)]
    stage.client.submit_many([job(name, hold=EVERY_ROUND) for name in names])
    stage.until(lambda: any(line["pid"] == lost.pid for line in stage.lines("renders")))
    lost.kill()
    for name in names:
        stage.release(name)
    stage.until_delivered(*names)
    for name in names:
        stage.assert_rendered_once(name)
        stage.assert_delivered_once(name)


def test_a_job_outlives_the_process_that_handed_it_in(stage: Stage) -> None:
    process = stage.play("submit", "outlives", "1", "wait")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"1"
    process.kill()
    stage.until_delivered("outlives")
    stage.assert_delivered_once("outlives")


def test_many_submits_of_one_job_compute_it_once(stage: Stage) -> None:
    processes = [stage.play("submit", "many", "25") for _ in range(2)]
    new = [int(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    assert sum(new) == 1
    stage.until_delivered("many")
    stage.assert_rendered_once("many")
    stage.assert_delivered_once("many")


def test_equal_tasks_share_one_search_and_each_job_is_delivered(stage: Stage) -> None:
    stage.client.submit_many([job("twin-1", text="twin"), job("twin-2", text="twin")])
    stage.until_delivered("twin-1", "twin-2")
    stage.assert_rendered_once("twin")
    stage.assert_delivered_once("twin-1")
    stage.assert_delivered_once("twin-2")
    assert stage.status("twin-1").key == stage.status("twin-2").key


def test_cancelling_one_of_two_equal_jobs_leaves_the_other_its_search(stage: Stage) -> None:
    jobs = [job(name, text="pair", hold=SECOND_ROUND) for name in ("pair-1", "pair-2")]
    stage.client.submit_many(jobs)
    stage.until(lambda: all(stage.status(one.id).key for one in jobs))
    stage.client.cancel("pair-1")
    stage.release("pair")
    stage.until_delivered("pair-2")
    stage.assert_rendered_once("pair")
    assert stage.status("pair-1").state == "cancelled"
    assert not stage.deliveries("pair-1")


@pytest.mark.parametrize("moment", ["prepare", "deliver"])
def test_an_outage_of_label_studio_delays_but_loses_nothing(stage: Stage, moment: str) -> None:
    name = f"down-{moment}"
    stage.client.submit(job(name, down=moment))
    stage.until(lambda: "Label Studio is down" in stage.status(name).note)
    if moment == "deliver":
        assert stage.status(name).state == "delivering"
        assert isinstance(stage.client.result(name), SearchResult)
    stage.until_delivered(name)
    stage.assert_rendered_once(name)
    stage.assert_delivered_once(name)
    assert stage.status(name).note == ""


def test_tasks_that_label_studio_always_fails_at_do_not_stop_the_others(stage: Stage) -> None:
    # More of them than are prepared at once.
    names = [f"stumbles-{number}" for number in range(4)]
    stage.client.submit_many([job(name, stumbles="prepare") for name in names])
    stage.client.submit(job("fine"))
    stage.until_delivered("fine")
    stage.until(lambda: {stage.status(name).state for name in names} == {"failed"})


def test_a_delivery_that_always_fails_ends_with_a_report(stage: Stage) -> None:
    stage.client.submit(job("stumbles", stumbles="deliver"))
    stage.until_delivered("stumbles")
    (report,) = stage.deliveries("stumbles")
    assert report["failure"] == "label_studio_stumbled"
    status = stage.status("stumbles")
    assert status.failure is not None
    assert "tried again" in status.failure.message
    stage.assert_rendered_once("stumbles")


def test_cancelling_frees_the_devices_in_the_middle_of_a_batch(stage: Stage) -> None:
    stage.client.submit(job("cancelled", hold=EVERY_ROUND))
    stage.until(lambda: len(stage.renders("cancelled", "start")) == 2)
    assert stage.client.cancel("cancelled")
    stage.client.submit(job("after", priority=1))
    stage.until_delivered("after")
    assert stage.status("cancelled").state == "cancelled"
    assert not stage.renders("cancelled", "end")
    assert not stage.deliveries("cancelled")


def test_a_retry_keeps_the_batches_that_had_finished(stage: Stage) -> None:
    stage.client.submit(job("again", hold=SECOND_ROUND))
    stage.until_halfway("again")
    assert stage.client.cancel("again")
    assert stage.client.retry("again")
    stage.release("again")
    stage.until_delivered("again")
    stage.assert_rendered_once("again")
    stage.assert_delivered_once("again")


def test_a_failed_job_says_why_and_can_be_retried(stage: Stage) -> None:
    broken = stage.folder / "broken"
    broken.touch()
    stage.client.submit(job("failing"))
    stage.until_delivered("failing")
    broken.unlink()
    failure = stage.client.result("failing")
    assert isinstance(failure, Failure)
    assert failure.code == "editor_failed"
    assert [line["failure"] for line in stage.deliveries("failing")] == ["editor_failed"]
    assert stage.client.retry("failing")
    stage.until(lambda: stage.status("failing").state == "done")
    assert [line.get("usable") for line in stage.deliveries("failing")] == [None, CANDIDATES]


def test_a_bad_task_fails_without_a_render(stage: Stage) -> None:
    stage.client.submit(job("bad", bad=True))
    stage.until_delivered("bad")
    assert stage.status("bad").failure == Failure("bad_task", "The task is bad. Mend it.")
    assert not stage.renders("bad", "start")


def test_somebody_who_waits_is_served_before_a_pile_of_batch_jobs(stage: Stage) -> None:
    pile = [f"pile-{number}" for number in range(6)]
    stage.client.submit_many([job(name, hold=EVERY_ROUND) for name in pile])
    stage.until(lambda: any(stage.renders(name, "start") for name in pile))
    stage.client.submit(job("urgent", priority=1))
    stage.until(lambda: stage.status("urgent").state == "running")
    for name in pile:
        stage.release(name)
    stage.until_delivered("urgent", *pile)
    order = [line["job"] for line in stage.lines("deliveries")]
    behind = [name for name in pile if order.index(name) > order.index("urgent")]
    assert len(behind) >= 3


def test_a_hung_batch_is_ended_and_tried_again(stage: Stage) -> None:
    stage.client.submit(job("hung", hang_once=["c2"]))
    stage.until_delivered("hung")
    stage.assert_rendered_once("hung")
    stage.assert_delivered_once("hung")


def test_a_trial_that_kills_its_worker_fails_alone(stage: Stage) -> None:
    stage.client.submit_many([job("poisoned", poison=["c2"]), job("bystander")])
    stage.until_delivered("poisoned", "bystander")
    stage.assert_delivered_once("bystander")
    result = stage.client.result("poisoned")
    assert isinstance(result, SearchResult)
    failed = {c.id: c.failure.code for c in result.candidates if c.failure}
    assert failed == {"c2": "worker_crashed"}
    assert len(result.usable) == CANDIDATES - 1
    assert max(Counter(stage.renders("poisoned", "start")).values()) == 3
    assert set(Counter(stage.renders("poisoned", "end")).values()) == {1}


def test_a_crash_counts_only_against_the_batch_on_the_device(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "", batch_timeout=900, variables={"EACPS_SEARCH_CONCURRENCY": "8"})
    try:
        judged = [f"judged-{number}" for number in range(4)]
        stage.client.submit_many([job(name, judged=True) for name in judged])
        stage.until(lambda: all(len(stage.renders(name, "end")) >= 2 for name in judged))
        stage.client.submit(job("poisoned", poison=["c1", "c2"]))
        stage.until_delivered("poisoned")
        result = stage.client.result("poisoned")
        assert isinstance(result, SearchResult)
        assert {c.id for c in result.candidates if c.failure} == {"c1", "c2"}
        for name in judged:
            stage.release(name)
        stage.until_delivered(*judged)
        for name in judged:
            stage.assert_delivered_once(name)
    finally:
        stage.close()


def test_everything_that_ended_can_be_forgotten(stage: Stage) -> None:
    stage.until(lambda: stage.client.counts()["delivering"] == 0)
    ended = [status.id for status in stage.client.list(1000)]
    assert stage.client.prune(days=0) == len(ended)
    assert stage.client.list() == []
    stage.client.submit(job("twin-3", text="twin"))
    stage.until_delivered("twin-3")
    assert len(stage.renders("twin", "end")) == 2 * len(set(stage.renders("twin", "end")))
