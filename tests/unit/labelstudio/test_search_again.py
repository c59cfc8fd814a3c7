"""`eacps search-again`: which tasks of a project are searched again, and which are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from eacps.domain import SearchResult
from eacps.errors import TaskError
from eacps.jobs.contract import BATCH_PRIORITY, JobState
from eacps.labelstudio import cards
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.search_again import FATES, Again, search_again
from eacps.labelstudio.tasks.origins import origin_of, read_origin
from eacps.settings import Settings
from tests.unit.labelstudio.support import Queue

PROJECT: dict[str, Any] = {"id": 5, "label_config": "<View/>"}
FINISHED: dict[str, Any] = {"was_cancelled": False, "result": []}
SKIPPED: dict[str, Any] = {"was_cancelled": True, "result": []}


class LabelStudio:
    """One project, as its export shows it."""

    def __init__(self, tasks: Sequence[dict[str, Any]]) -> None:
        self.tasks = tasks

    def project(self, number: int) -> dict[str, Any]:
        assert number == PROJECT["id"]
        return PROJECT

    def list_rows(self, path: str, **query: str) -> Sequence[dict[str, Any]]:
        assert path == "/api/projects/5/export"
        # Without it Label Studio exports only what has annotations.
        assert query["download_all_tasks"] == "true"
        return self.tasks


def asked(number: int, **data: Any) -> dict[str, Any]:
    """A task as somebody imported it."""
    return {
        "id": number,
        "data": {"image": "https://pictures.example/bear.png", "prompt": "add a hat", **data},
        "annotations": [],
        "created_at": "2026-01-01T00:00:00Z",
    }


def job_of(task: dict[str, Any], settings: Settings) -> str:
    return origin_of(task, settings, label_config=PROJECT["label_config"], project=PROJECT).job_id


def answered(
    task: dict[str, Any],
    result: SearchResult,
    settings: Settings,
    annotations: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The same task with the result of a search with these settings."""
    new = cards.enrichment(
        result,
        lambda name: f"https://backend.example/{name}",
        job_id=job_of(task, settings),
        model_version=settings.model_version,
        references=[],
    )
    data = cards.merged(task["data"], new)
    return {**task, "data": data, "annotations": list(annotations)}


def again(
    tasks: Sequence[dict[str, Any]], settings: Settings, queue: Queue, **options: Any
) -> Again:
    client = cast(LabelStudioClient, LabelStudio(tasks))
    return search_again(settings, client, queue, 5, **options)


@pytest.fixture
def earlier(settings: Settings) -> Settings:
    """The settings that made the results of before."""
    return settings.model_copy(update={"steps": settings.steps + 1})


def test_each_task_has_one_fate(
    settings: Settings, earlier: Settings, queue: Queue, result: SearchResult
) -> None:
    tasks = [
        asked(1),
        answered(asked(2), result, settings),
        answered(asked(3), result, earlier),
        answered(asked(4), result, earlier, [FINISHED]),
        answered(asked(5), result, earlier, [SKIPPED]),
        answered(asked(6), result, settings, [FINISHED]),
        {**asked(7), "annotations": [FINISHED]},
    ]
    found = again(tasks, settings, queue)
    assert found.model_version == settings.model_version
    assert found.tasks == {
        "queued": [1, 3, 5, 7],
        "current": [2, 6],
        "annotated": [4],
        "waiting": [],
    }
    assert found.counts == {"queued": 4, "current": 2, "annotated": 1, "waiting": 0}
    assert found.tasks.keys() == FATES.keys()


def test_what_is_queued_is_the_job_that_label_studio_would_ask_for(
    settings: Settings, earlier: Settings, queue: Queue, result: SearchResult
) -> None:
    task = answered(asked(3), result, earlier)
    again([task], settings, queue)
    (entry,) = queue.entries.values()
    assert entry.id == job_of(task, settings) != job_of(task, earlier)
    origin = read_origin(entry.origin)
    assert (origin.project, origin.task) == (5, 3)
    assert origin.model_version == settings.model_version
    assert origin.data == asked(3)["data"], "the cards of before are no part of the question"
    assert queue.priorities[entry.id] == BATCH_PRIORITY


def test_a_task_whose_instruction_changed_since_is_searched_again_though_annotated(
    settings: Settings, queue: Queue, result: SearchResult
) -> None:
    task = answered(asked(3), result, settings, [FINISHED])
    task["data"]["prompt"] = "add a scarf"
    assert again([task], settings, queue).tasks["queued"] == [3]


@pytest.mark.parametrize("state", ["queued", "running", "delivering"])
def test_a_task_that_is_being_searched_is_left_to_it(
    settings: Settings, queue: Queue, state: JobState
) -> None:
    again([asked(1)], settings, queue)
    job, entry = next(iter(queue.entries.items()))
    queue.entries[job] = replace(entry, state=state)
    assert again([asked(1)], settings, queue).tasks["waiting"] == [1]
    assert queue.restarted == []


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_a_job_of_these_settings_that_ended_without_a_result_in_the_task_is_restarted(
    settings: Settings, queue: Queue, state: JobState
) -> None:
    again([asked(1)], settings, queue)
    job, entry = next(iter(queue.entries.items()))
    queue.entries[job] = replace(entry, state=state)
    assert again([asked(1)], settings, queue).tasks["queued"] == [1]
    assert queue.restarted == [job]


def test_a_dry_run_tells_the_same_and_touches_nothing(
    settings: Settings, earlier: Settings, queue: Queue, result: SearchResult
) -> None:
    tasks = [asked(1), answered(asked(2), result, earlier), asked(3)]
    again([asked(3)], settings, queue)
    job, entry = next(iter(queue.entries.items()))
    queue.entries[job] = replace(entry, state="failed")
    told = again(tasks, settings, queue, dry_run=True)
    assert queue.entries.keys() == {job}
    assert queue.restarted == []
    assert told == again(tasks, settings, queue)
    assert len(queue.entries) == 3


def test_only_the_named_tasks_are_looked_at(settings: Settings, queue: Queue) -> None:
    tasks = [asked(number) for number in (3, 4, 5, 9, 12)]
    found = again(tasks, settings, queue, only=[(4, 6), (12, 12)])
    assert found.tasks["queued"] == [4, 5, 12]
    assert len(queue.entries) == 3


@pytest.mark.parametrize(
    ("only", "words"), [([(3, 3), (7, 7)], "no task 7"), ([(20, 30)], "no tasks 20 to 30")]
)
def test_numbers_that_no_task_has_are_refused_before_anything_is_queued(
    settings: Settings, queue: Queue, only: list[tuple[int, int]], words: str
) -> None:
    with pytest.raises(TaskError, match=f"Project 5 has {words}") as caught:
        again([asked(3)], settings, queue, only=only)
    assert "--task-ids" in caught.value.hint
    assert queue.entries == {}


def test_a_project_without_tasks_has_nothing_to_search(settings: Settings, queue: Queue) -> None:
    assert again([], settings, queue).counts.total() == 0
