from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eacps.domain import Failure, SearchResult
from eacps.jobs.contract import BATCH_PRIORITY, Job
from eacps.labelstudio import cards
from eacps.labelstudio.tasks.origins import origin_of, read_origin
from eacps.labelstudio.web.predictor import WAITING_AT_ONCE, predict_tasks, tasks_created
from eacps.settings import Settings
from tests.patience import PATIENCE
from tests.unit.labelstudio.support import FIXTURES, Queue, make_result

TASK: dict[str, Any] = {
    "id": 5,
    "project": 2,
    "created_at": "2026-01-02T03:04:05.678Z",
    "data": {"image": "/data/upload/2/a.png", "prompt": "add a scarf"},
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "data", "image", "prompt", "eacps", "candidates", "ranked"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


def ask(settings: Settings, queue: Queue, *tasks: Any, **more: Any) -> list[dict[str, Any]]:
    arguments = {"label_config": "", "project": "2.1700000000", "context": None} | more
    return predict_tasks(list(tasks), settings=settings, client=queue, **arguments)


def enriched(settings: Settings, result: SearchResult) -> dict[str, Any]:
    new = cards.enrichment(
        result,
        lambda name: f"/data/{name}",
        job_id=origin_of(TASK, settings, project=2).job_id,
        model_version=settings.model_version,
    )
    return TASK | {"data": cards.merged(TASK["data"], new)}


def test_a_new_task_is_enqueued_once_and_answered_later(settings: Settings, queue: Queue) -> None:
    assert ask(settings, queue, TASK) == [{}]
    assert ask(settings, queue, TASK) == [{}]
    assert len(queue.entries) == 1
    assert list(queue.priorities.values()) == [1]


def test_webhook_and_predict_mean_the_same_job(
    settings: Settings, queue: Queue, recorded: Any
) -> None:
    webhook, predict = recorded("webhook_tasks_created"), recorded("predict_open_task")
    assert tasks_created(webhook, settings, queue) == 2
    ask(settings, queue, *predict["tasks"], label_config=predict["label_config"])
    assert len(queue.entries) == 2


def test_a_webhook_looks_up_the_regions_it_does_not_bring(
    settings: Settings, queue: Queue, recorded: Any
) -> None:
    tasks_created(recorded("webhook_tasks_created"), settings, queue)
    origins = [read_origin(entry.origin) for entry in queue.entries.values()]
    assert {origin.task: origin.look_up for origin in origins} == {11: False, 12: True}


def test_regions_in_a_retrieve_request_become_the_mask(
    settings: Settings, queue: Queue, recorded: Any
) -> None:
    request = recorded("predict_retrieve")
    ask(settings, queue, *request["tasks"], label_config=request["label_config"])
    origins = [read_origin(entry.origin) for entry in queue.entries.values()]
    masks = {origin.task: [r["value"]["width"] for r in origin.regions] for origin in origins}
    assert masks == {11: [], 12: [50]}


def test_an_enriched_task_is_answered_from_its_data(
    settings: Settings, queue: Queue, result: SearchResult
) -> None:
    [answer] = ask(settings, queue, enriched(settings, result))
    ranked = answer["result"][0]["value"]["ranker"]["ranked"]
    assert [name.partition("-")[0] for name in ranked] == ["c1", "c2", "c3"]
    assert answer["model_version"] == settings.model_version
    assert not queue.entries


def test_a_finished_task_keeps_its_result_when_settings_change(
    settings: Settings, queue: Queue, result: SearchResult
) -> None:
    task = enriched(settings, result)
    later = settings.model_copy(update={"strategy": "halving"})
    assert later.model_version != settings.model_version
    [answer] = ask(later, queue, task)
    assert answer["model_version"] == settings.model_version, "it was not made by the new one"
    assert not queue.entries, "a finished task was searched again"
    # Label Studio asks again and again, as it has no prediction of the new version.
    row = {"model_version": settings.model_version, "result": answer["result"]}
    assert ask(later, queue, task | {"predictions": [row]}) == [{}]
    payload = {"action": "TASKS_CREATED", "tasks": [task], "project": {"id": 2}}
    assert tasks_created(payload, later, queue) == 0
    ask(later, queue, task | {"data": task["data"] | {"prompt": "another"}})
    assert len(queue.entries) == 1


def test_a_task_that_01_finished_keeps_its_result(queue: Queue) -> None:
    folder = FIXTURES.parent / "stored" / "0.1" / "jobs"
    stored = json.loads(gzip.decompress((folder / "label-studio.json.gz").read_bytes()))
    about = json.loads((folder / "about.json").read_text())
    now = Settings(_env_file=None, label_studio_url="http://label-studio.example")
    assert now.model_version != about["model_version"]
    for number, is_finished in (("1", True), ("2", False), ("7", False)):
        task = {**stored["tasks"][number], "predictions": []}
        answers = ask(now, queue, task, label_config="<View/>", project={"id": 1})
        assert (answers != [{}]) is is_finished, number
        assert [answer.get("model_version") for answer in answers] == (
            [about["model_version"]] if is_finished else [None]
        )
    assert {entry.origin["task"] for entry in queue.entries.values()} == {2, 7}


def test_while_the_result_is_delivered_predict_does_not_deliver_it_too(
    settings: Settings, queue: Queue, result: SearchResult
) -> None:
    ask(settings, queue, TASK)
    task = enriched(settings, result)
    queue.end(result, "delivering")
    assert ask(settings, queue, task) == [{}]
    queue.end(result, "done", seconds_ago=0.5)
    assert ask(settings, queue, task) == [{}]
    queue.end(result, "done", seconds_ago=60)
    assert ask(settings, queue, task)[0]["score"] == 0.8


def test_a_changed_instruction_or_mask_is_a_new_job(
    settings: Settings, queue: Queue, result: SearchResult
) -> None:
    task = enriched(settings, result)
    ask(settings, queue, task | {"data": task["data"] | {"prompt": "another"}})
    value = {"x": 1, "y": 1, "width": 5, "height": 5}
    context = {"result": [{"type": "rectangle", "to_name": "img", "value": value}]}
    ask(settings, queue, task, context=context)
    assert len(queue.entries) == 2


def test_fields_that_do_not_matter_do_not_make_a_new_job(settings: Settings, queue: Queue) -> None:
    ask(settings, queue, TASK)
    ask(settings, queue, TASK | {"data": TASK["data"] | {"note": "hello"}, "updated_at": "now"})
    assert len(queue.entries) == 1


def test_other_settings_make_a_new_job(settings: Settings, queue: Queue) -> None:
    ask(settings, queue, TASK)
    ask(settings.model_copy(update={"steps": 7, "strategy": "random"}), queue, TASK)
    assert len(queue.entries) == 2


def test_a_failed_task_is_tried_again_but_not_at_once(settings: Settings, queue: Queue) -> None:
    ask(settings, queue, TASK)
    queue.end(Failure("fetch_failed", "Broken."), seconds_ago=1)
    assert ask(settings, queue, TASK) == [{}]
    assert not queue.retried
    job = queue.end(Failure("fetch_failed", "Broken."), seconds_ago=31)
    assert ask(settings, queue, TASK) == [{}]
    assert queue.retried == [job]


def test_a_task_that_is_itself_wrong_is_tried_again_the_next_day_or_when_it_changes(
    settings: Settings, queue: Queue
) -> None:
    ask(settings, queue, TASK)
    for code in ("no_instruction", "image_too_large", "no_face"):
        queue.end(Failure(code, "Wrong."), seconds_ago=3600)
        assert ask(settings, queue, TASK) == [{}]
    assert not queue.retried
    job = queue.end(Failure("no_face", "Wrong."), seconds_ago=90_000)
    ask(settings, queue, TASK)
    assert queue.retried == [job]
    ask(settings, queue, {**TASK, "data": {**TASK["data"], "prompt": "something else"}})
    assert len(queue.entries) == 2


def test_a_plain_client_is_told_its_own_reason_for_a_route_and_not_another_tasks(
    plain: Settings, queue: Queue, result: SearchResult
) -> None:
    task = {"data": {**TASK["data"], "route": "edit"}}
    ask(plain, queue, task)
    queue.end(result)
    [answer] = ask(plain, queue, task)
    assert answer["route_reason"] == "label “edit” in the task's field `route`"
    assert "local edit" not in answer["data"]["report_md"]


def test_a_task_that_lost_its_result_is_searched_again(
    settings: Settings, queue: Queue, result: SearchResult
) -> None:
    ask(settings, queue, TASK)
    queue.end(result)
    assert ask(settings, queue, TASK) == [{}]
    assert ask(settings, queue, TASK) == [{}]
    assert len(queue.entries) == 2


def test_a_plain_client_gets_everything_at_once(
    plain: Settings, queue: Queue, result: SearchResult
) -> None:
    task = {"data": {"image": "data:,x", "prompt": "add a scarf"}}
    ask(plain, queue, task)
    job = queue.end(result)
    [answer] = ask(plain, queue, task)
    assert answer["result"][0]["type"] == "ranker"
    assert answer["score"] == 0.8
    assert answer["job"] == job
    best = answer["candidates"][0]
    assert best["image_url"].startswith("http://127.0.0.1:9090/artifacts/")
    assert best["metrics"][0]["name"] == "pf"
    assert best["lineage"] == "global"
    assert answer["candidates"][-1]["failure"]["message"] == "Out of memory."


def test_a_plain_client_is_told_about_failures_and_unfinished_work(
    plain: Settings, queue: Queue
) -> None:
    task = {"data": {"image": "data:,x", "prompt": "add a scarf"}}
    [answer] = ask(plain, queue, task)
    assert answer["error"]["code"] == "not_finished"
    assert "3 of 8" in answer["error"]["message"]
    queue.end(Failure("bad_image", "Broken."), seconds_ago=0)
    [answer, wrong] = ask(plain, queue, task, 7)
    assert answer["error"] == {"code": "bad_image", "message": "Broken."}
    assert wrong["error"]["code"] == "bad_task"


def test_label_studio_is_never_told_about_failures_in_predictions(
    settings: Settings, queue: Queue
) -> None:
    class Broken(Queue):
        def submit_many(self, jobs: Any) -> int:
            raise RuntimeError("database is gone")

    assert ask(settings, Broken(), TASK, 7, {"id": 1}) == [{}, {}, {}]


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(ANYTHING, max_size=4), ANYTHING, ANYTHING, ANYTHING, st.booleans())
def test_no_request_makes_it_raise(
    tasks: list[Any], config: Any, project: Any, context: Any, connected: bool
) -> None:
    url = "http://label-studio.example" if connected else ""
    settings = Settings(
        _env_file=None,
        label_studio_url=url,
        predict_wait_seconds=0,
        predict_wait_without_label_studio=0,
    )
    more = {"label_config": config, "project": project, "context": context}
    assert len(ask(settings, Queue(), *tasks, **more)) == len(tasks)
    tasks_created({"tasks": tasks, "project": project}, settings, Queue())


@pytest.mark.parametrize("tasks", [None, 3, "x", {}])
def test_tasks_that_are_no_list_are_no_tasks(settings: Settings, queue: Queue, tasks: Any) -> None:
    answer = predict_tasks(tasks, "", 1, context=None, settings=settings, client=queue)
    assert answer == []


def test_ranker_ids_missing_from_the_requests_data_are_never_sent(
    settings: Settings, queue: Queue
) -> None:
    task = enriched(settings, make_result())
    data = task["data"] | {"candidates": task["data"]["candidates"][1:]}
    assert ask(settings, queue, task | {"data": data}) == [{}]


def test_a_flood_of_nonsense_is_one_line_in_the_log_and_one_answer_per_entry(
    settings: Settings, plain: Settings, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    flood: list[Any] = [0, None, "x", {}, {"data": 3}] * 1000
    for chosen in (settings, plain):
        caplog.clear()
        answers = ask(chosen, queue, *flood)
        assert len(answers) == len(flood)
        assert [line.getMessage() for line in caplog.records] == [
            "5000 of 5000 tasks in a predict request cannot be read: A task must be an object with "
            "an object `data`. Send tasks as Label Studio exports them."
        ]
    caplog.clear()
    assert tasks_created({"tasks": flood}, settings, queue) == 0
    assert len(caplog.records) == 1


def test_a_large_import_is_enqueued_whole_and_in_parts(settings: Settings) -> None:
    class Counting(Queue):
        sizes: ClassVar[list[int]] = []

        def submit_many(self, jobs: Sequence[Job]) -> int:
            self.sizes.append(len(jobs))
            return super().submit_many(jobs)

    data = {"image": "/data/upload/3/bear.png", "prompt": "add a hat"}
    tasks: list[Any] = [{"id": number, "project": 3, "data": data} for number in range(2500)]
    tasks[7] = "nonsense"
    queue = Counting()
    assert tasks_created({"tasks": tasks}, settings, queue) == 2499
    assert queue.sizes == [999, 1000, 500]
    assert set(queue.priorities.values()) == {BATCH_PRIORITY}
    other = Counting()
    assert len(ask(settings, other, *tasks)) == 2500
    assert set(other.entries) == set(queue.entries)
    assert set(other.priorities.values()) == {BATCH_PRIORITY}


def test_only_some_requests_wait_for_results(plain: Settings) -> None:
    patient = plain.model_copy(update={"predict_wait_without_label_studio": 3600.0})
    arrived, release = threading.Semaphore(0), threading.Event()

    class Slow(Queue):
        def result(self, job: str, timeout: float = 0.0) -> None:
            if timeout:
                arrived.release()
                release.wait(PATIENCE)

    queue = Slow()
    threads = [
        threading.Thread(target=ask, args=(patient, queue, {"data": {"prompt": str(n)}}))
        for n in range(WAITING_AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=PATIENCE)
    # All places are taken; this one is answered although none of them becomes free.
    [answer] = ask(patient, queue, {"data": {"prompt": "one more"}})
    assert answer["error"]["code"] == "not_finished"
    assert len(queue.entries) == WAITING_AT_ONCE + 1
    release.set()
    for thread in threads:
        thread.join()
