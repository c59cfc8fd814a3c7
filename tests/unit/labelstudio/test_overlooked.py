"""Tasks that were announced while nobody listened are found, and found once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eacps.domain import Failure, to_json
from eacps.jobs.contract import BATCH_PRIORITY, Job
from eacps.labelstudio.errors import LabelStudioDownError
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.overlooked import PAGE
from eacps.labelstudio.tasks.origins import origin_of
from eacps.labelstudio.web.predictor import tasks_created
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio, refusal
from tests.unit.labelstudio.support import Queue

BACKEND = "http://backend.example:9090"


def stamp(minutes: float = 0.0) -> str:
    """A moment so many minutes after half a day ago, as Label Studio writes it."""
    moment = datetime.now(UTC) - timedelta(hours=12) + timedelta(minutes=minutes)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Place:
    """A Label Studio with a connected project, and the jobs so far."""

    site: RecordedLabelStudio
    settings: Settings
    queue: Queue = field(default_factory=Queue)

    def connect(self, project: int = 1, minutes: float = 0) -> None:
        self.site.projects[project] = {"id": project, "label_config": "<View/>"}
        self.site.webhooks.append(
            {
                "id": len(self.site.webhooks) + 1,
                "project": project,
                "url": f"{BACKEND}/webhook",
                "is_active": True,
                "send_for_all_actions": True,
                "created_at": stamp(minutes),
            }
        )

    def add(self, number: int, minutes: float = 1, project: int = 1, **data: Any) -> dict[str, Any]:
        """A task that was imported so many minutes after the project was connected."""
        task = self.site.add_task(number, {"image": "/a.png", "prompt": "x", **data}, project)
        task |= {"created_at": stamp(minutes), "updated_at": stamp(minutes)}
        return task

    def catch_up(self) -> int:
        """What the orchestrator does every hour, as if it had just started."""
        hooks = LabelStudioHooks(self.settings)
        return sum(self.queue.submit_many(portion) for portion in hooks.overlooked(self.known))

    def known(self, _since: float) -> Iterable[Mapping[str, Any]]:
        return [entry.origin for entry in self.queue.entries.values()]

    @property
    def tasks(self) -> list[int]:
        """The tasks with jobs."""
        return sorted(entry.origin["task"] for entry in self.queue.entries.values())

    def asked(self, words: str) -> int:
        return sum(words in target for _, target in self.site.asked)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with RecordedLabelStudio() as site:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(TOKEN),
            public_url=BACKEND,
        )
        yield Place(site, settings)


def test_a_task_that_was_never_announced_gets_the_job_that_its_webhook_would_make(
    place: Place,
) -> None:
    place.connect()
    task = place.add(7)
    assert place.catch_up() == 1
    announced = {name: value for name, value in task.items() if name != "annotations"}
    body = {"tasks": [announced], "project": place.site.projects[1]}
    assert tasks_created(body, place.settings, place.queue) == 0
    assert place.tasks == [7]
    assert list(place.queue.priorities.values()) == [BATCH_PRIORITY]
    assert place.catch_up() == 0


def test_tasks_with_a_job_a_result_or_a_report_are_left_alone(place: Place) -> None:
    place.connect()
    place.add(7)
    place.add(8, eacps={"job": "x", "ranked": ["c1"]})
    place.add(9, eacps={"job": "y", "failed": "bad_image"})
    # Asked for under other settings, and not finished yet.
    earlier = place.settings.model_copy(update={"steps": place.settings.steps + 1})
    asked = origin_of(place.site.tasks[7], earlier)
    place.queue.submit(Job(asked.job_id, to_json(asked)))
    assert place.catch_up() == 0


def test_tasks_from_before_the_project_was_connected_are_left_alone(place: Place) -> None:
    place.connect(minutes=60)
    place.add(7, minutes=59)
    place.add(8, minutes=61)
    place.catch_up()
    assert place.tasks == [8]


def test_tasks_from_before_the_retention_are_left_alone(place: Place) -> None:
    place.settings = place.settings.model_copy(update={"retention_days": 0.25})
    place.connect()
    place.add(7, minutes=60)
    place.add(8, minutes=11 * 60)
    place.catch_up()
    assert place.tasks == [8], "7 may have had a job that is forgotten by now"


def test_only_connected_projects_are_looked_through(place: Place) -> None:
    place.connect(1)
    for project in (2, 3, 4, 5, 6):
        place.connect(project)
        place.add(project, project=project)
    _, elsewhere, silent, other, backend, _ = place.site.webhooks
    elsewhere["url"] = "http://other.example/webhook"
    silent["is_active"] = False
    other |= {"send_for_all_actions": False, "actions": ["PROJECT_UPDATED"]}
    backend["url"] = ""
    place.site.projects[5]["model_version"] = "eacps-0123456789"
    title = place.settings.model_version
    row = {"id": 1, "project": 5, "url": f"{BACKEND}/", "title": title, "created_at": stamp()}
    place.site.backends = [row, {**row, "project": 2}]
    place.catch_up()
    assert place.tasks == [5, 6]


def test_a_webhook_of_the_whole_organization_connects_all_projects(place: Place) -> None:
    place.connect()
    place.site.webhooks[0]["project"] = None
    place.add(7)
    place.catch_up()
    assert place.tasks == [7]


@pytest.mark.parametrize("number", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_all_pages_are_read(place: Place, number: int) -> None:
    place.connect()
    for task in range(1, number + 1):
        place.add(task, minutes=task)
    assert place.catch_up() == number
    assert place.tasks == list(range(1, number + 1))


def test_a_server_that_gives_less_than_a_page_is_read_to_its_end(place: Place) -> None:
    place.connect()
    for task in range(1, 31):
        place.add(task, minutes=task)
    place.site.page_limit = 7
    assert place.catch_up() == 30


def test_all_projects_are_looked_through(place: Place) -> None:
    for project in range(1, 101):
        place.connect(project)
    place.add(7, project=100)
    place.catch_up()
    place.connect(101)
    place.add(8, project=101)
    place.catch_up()
    assert place.tasks == [7, 8]


def test_nothing_new_costs_one_page_per_project(place: Place) -> None:
    place.connect()
    for task in range(1, 6 * PAGE):
        place.add(task, minutes=task)
    place.catch_up()
    place.catch_up()
    for new in (0, 1, 0):
        place.site.asked.clear()
        if new:
            place.add(999, minutes=6 * PAGE + 60)
        assert place.catch_up() == new
        assert place.asked("/tasks/") == 1


def test_a_task_that_is_found_is_looked_at_again_if_it_could_not_be_stored(place: Place) -> None:
    place.connect()
    place.add(7)
    hooks = LabelStudioHooks(place.settings)
    assert [len(portion) for portion in take(hooks.overlooked(place.known), 1)] == [1]
    # The process was killed before it stored the job.
    assert place.catch_up() == 1


def take(portions: Iterable[Sequence[Job]], number: int) -> list[Sequence[Job]]:
    return [portion for portion, _ in zip(portions, range(number), strict=False)]


def test_a_task_that_moved_between_two_pages_is_found_the_next_time(place: Place) -> None:
    place.connect()
    for task in range(1, PAGE + 2):
        place.add(task, minutes=task)

    def delete_the_newest(_: str, path: str) -> None:
        if place.asked("/tasks/") == 2:
            # The last task of the second page is now on the first, which was read already.
            place.site.tasks.pop(PAGE + 1, None)

    place.site.fault = delete_the_newest
    place.catch_up()
    assert 1 not in place.tasks
    place.catch_up()
    assert 1 in place.tasks


def test_a_damaged_memory_only_costs_time(place: Place) -> None:
    place.connect()
    place.add(7)
    place.catch_up()
    memory = place.settings.data_dir / "catch-up.json"
    assert json.loads(memory.read_text())
    for content in ("", "[1]", '{"a": 3}', '{"a": ["x", "y"]}'):
        memory.write_text(content)
        assert place.catch_up() == 0


def faulty(words: str) -> Callable[[str, str], Any]:
    return lambda _, path: refusal(500, "no") if words in path else None


def test_one_project_that_fails_does_not_hide_the_others(place: Place) -> None:
    place.connect(1)
    place.connect(2)
    place.add(8, project=2)
    place.site.fault = faulty("/api/projects/1/tasks/")
    place.catch_up()
    assert place.tasks == [8]


def test_a_label_studio_that_is_down_is_said_to_be(place: Place) -> None:
    place.connect()
    place.site.fault = faulty("/")
    with pytest.raises(LabelStudioDownError):
        place.catch_up()


def test_without_label_studio_there_is_nothing_to_look_for(tmp_path: Path) -> None:
    hooks = LabelStudioHooks(Settings(_env_file=None, data_dir=tmp_path))
    assert not list(hooks.overlooked(lambda _: []))
    hooks.deliver_failure({"data": {}, "route": "edit", "route_reason": "", "model_version": "x"},
                          Failure("x", "y"))  # fmt: skip
