"""A task over its project's quota says that it waits, in Label Studio and on the status page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eacps.domain import to_json
from eacps.jobs.client import JobClient
from eacps.jobs.contract import BATCH_PRIORITY
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.tasks.costs import OF_PLUGINS, cost_of
from eacps.labelstudio.tasks.origins import new_job, origin_of
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.predictor import tasks_created
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio

NOTE = "Project 1 has used its 20 <candidates> of today."


@pytest.fixture
def site() -> Iterator[RecordedLabelStudio]:
    with RecordedLabelStudio() as running:
        yield running


@pytest.fixture
def settings(site: RecordedLabelStudio, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=tmp_path,
        label_studio_url=site.url,
        label_studio_api_key=SecretStr(TOKEN),
        strategy="best_of_n",
        project_quotas={"1": 20},
        allow_no_password=True,
    )


def origin(settings: Settings, task: dict[str, Any], **more: Any) -> dict[str, Any]:
    return dict(to_json(origin_of(task, settings, **more)))


def test_a_task_says_that_it_waits_until_its_result_comes(
    site: RecordedLabelStudio, settings: Settings
) -> None:
    task = site.add_task(7, {"image": "/a", "prompt": "x"})
    hooks, asked = LabelStudioHooks(settings), origin(settings, task)
    hooks.say_waiting(asked, NOTE)
    told = site.tasks[7]["data"]
    assert told["eacps_state"] == "waiting: quota"
    assert "<b>No edits yet.</b> Project 1 has used its 20 &lt;candidates&gt;" in told["report_md"]
    assert told["image"] == "/a"
    hooks.say_waiting(asked, NOTE)
    assert site.tasks[7]["data"] == told


def test_a_report_of_an_earlier_result_stays(site: RecordedLabelStudio, settings: Settings) -> None:
    held = {"candidates": [{"id": "c1-1"}], "report_md": "kept", "eacps_state": "ready"}
    task = site.add_task(7, {"image": "/a", "prompt": "x", **held})
    LabelStudioHooks(settings).say_waiting(origin(settings, task), NOTE)
    assert site.tasks[7]["data"]["report_md"] == "kept"
    assert site.tasks[7]["data"]["eacps_state"] == "waiting: quota"


def test_a_task_that_was_changed_or_deleted_is_told_nothing(
    site: RecordedLabelStudio, settings: Settings
) -> None:
    asked = origin(settings, site.add_task(7, {"image": "/a", "prompt": "x"}))
    site.tasks[7]["data"] = {"image": "/a", "prompt": "y"}
    LabelStudioHooks(settings).say_waiting(asked, NOTE)
    del site.tasks[7]
    LabelStudioHooks(settings).say_waiting(asked, NOTE)
    assert site.writes == []


def test_imports_over_the_quota_wait_and_the_status_page_says_so(settings: Settings) -> None:
    jobs = JobClient(settings)
    tasks = [
        {"id": number, "project": 1, "data": {"image": f"/{number}", "prompt": "x"}}
        for number in range(6)
    ]
    payload = {"tasks": tasks, "project": {"id": 1, "label_config": label_config()}}
    assert tasks_created(payload, settings, jobs) == 6
    web = create_app(settings, open_jobs=lambda _: jobs).test_client()
    waiting = web.get("/status.json").get_json()["waiting"]
    assert waiting == [
        "Project 1: 4 tasks wait until tomorrow (midnight UTC), because it has used its 20 "
        "candidates of today (EACPS_PROJECT_QUOTAS)."
    ]
    assert "4 tasks wait until tomorrow" in web.get("/status").text
    jobs.close()


def test_a_job_counts_what_its_own_search_plans(settings: Settings) -> None:
    def planned(config: str = "", **data: Any) -> tuple[str, int, float]:
        task = {"id": 5, "project": 4, "data": {"image": "/a", "prompt": "x", **data}}
        origin = origin_of(task, settings, label_config=config)
        made = new_job(origin, BATCH_PRIORITY, settings=settings)
        return made.project, made.candidates, made.cost

    assert planned() == ("4", 8, 8.0)
    assert planned(eacps_budget=3) == ("4", 3, 3.0)
    assert planned('<View eacps_steps="24"/>', eacps_budget=3) == ("4", 3, 6.0)
    assert planned(eacps_strategy="auto")[1] == 8
    assert planned(route="face swap")[1:] == (10, 1.0)
    assert planned(eacps_budget=9999) == ("4", 0, 0.0)
    own = settings.changed({"strategy": "file.py:Mine"})
    assert cost_of({}, "edit", own) == OF_PLUGINS
