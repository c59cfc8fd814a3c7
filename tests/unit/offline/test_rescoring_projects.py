"""`eacps rescore --project`: a new order as a new prediction, and nothing saved changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr

from eacps.artifacts import open_store
from eacps.domain import EditTask, SearchResult, to_json
from eacps.images import encode_png
from eacps.jobs.client import JobClient
from eacps.jobs.contract import JobStatus
from eacps.labelstudio.cards.naming import RECORD
from eacps.labelstudio.client import open_client
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.tasks.origins import META, origin_of
from eacps.offline.judging.projects import ANNOTATED, CURRENT, Skipped, rescore_project
from eacps.offline.judging.rescoring import Rescored
from eacps.settings import Settings
from tests.judge_server import JudgeServer, picture_of, serving
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio
from tests.unit.labelstudio.support import make_result

SCORES = {"c1": 2, "c2": 8, "c3": 5}


@dataclass
class Jobs:
    """The jobs about the only task."""

    found: Sequence[JobStatus]
    results: dict[str, SearchResult]

    def about(self, subject: str) -> Sequence[JobStatus]:
        assert subject
        return self.found

    def result(self, job: str) -> SearchResult | None:
        return self.results.get(job)

    def extra_params(self, project: str) -> str:
        del project
        return ""


@dataclass
class Project:
    """A project whose task 7 has a delivered result."""

    site: RecordedLabelStudio
    judged_by: JudgeServer
    settings: Settings
    jobs: Jobs

    def rescore(self, **options: Any) -> list[Rescored | Skipped]:
        jobs = cast(JobClient, self.jobs)
        client = open_client(self.settings)
        return list(rescore_project(self.settings, client, jobs, 1, "cpu", **options))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with RecordedLabelStudio() as site, serving() as server:
        before = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(TOKEN),
        )
        store = open_store(before)
        made = make_result()
        candidates = tuple(
            replace(one, image=picture, thumbnail=picture) if not one.failure else one
            for one in made.candidates
            for picture in [store.put(encode_png(picture_of(SCORES.get(one.id, 0))), "png")]
        )
        task = EditTask(store.put(encode_png(picture_of(3)), "png"), "add a scarf")
        task = replace(task, model_version=before.model_version)
        result = replace(made, candidates=candidates, task=task)
        row = site.add_task(7, {"image": "/data/upload/1/a.png", "prompt": "add a scarf"})
        origin = origin_of(row, before, label_config="<View/>", project={"id": 1})
        LabelStudioHooks(before).deliver(to_json(origin), result)
        status = JobStatus("job", "done", origin=to_json(origin), key="key")
        steered = replace(status, id="steered", origin={**status.origin, "steer": {"action": "x"}})
        jobs = Jobs([steered, status], {"job": result})
        name = f"openai:m@{server.address}/v1"
        after = before.changed(
            {"verifier": name, "potential": "weighted", "weights": {"verified": 1.0}}
        )
        yield Project(site, server, after, jobs)


def order_of(prediction: dict[str, Any]) -> list[str]:
    names = prediction["result"][0]["value"]["ranker"]["ranked"]
    return [name.split("-")[0] for name in names]


def test_a_task_gets_the_new_order_and_keeps_what_it_had(project: Project) -> None:
    before = copy.deepcopy(project.site.tasks[7]["data"])
    [old] = copy.deepcopy(project.site.predictions_of(7))
    assert order_of(old) == ["c1", "c2", "c3"]
    assert project.rescore() == [Rescored("task 7", "c1", "c2")]
    [new] = project.site.predictions_of(7)
    assert order_of(new) == ["c2", "c3", "c1"]
    assert new["model_version"] == project.settings.model_version != old["model_version"]
    after = project.site.tasks[7]["data"]
    kept = {card["id"] for card in after["candidates"]}
    assert {card["id"] for card in before["candidates"]} < kept
    asked = len(project.judged_by.heard)
    assert project.rescore() == [Skipped("task 7", CURRENT)]
    assert len(project.judged_by.heard) == asked


def test_annotated_tasks_and_other_tasks_are_left_alone(project: Project) -> None:
    assert project.rescore(only=[(1, 6)]) == []
    project.site.tasks[7]["annotations"] = [{"was_cancelled": False, "result": []}]
    assert project.rescore() == [Skipped("task 7", ANNOTATED)]
    assert not project.judged_by.heard


def test_a_judge_that_is_down_changes_nothing_and_is_named(project: Project) -> None:
    project.judged_by.fault = lambda _: "broken"
    data = copy.deepcopy(project.site.tasks[7]["data"])
    [found] = project.rescore()
    assert isinstance(found, Rescored)
    assert "it answers 500" in found.problem
    assert project.site.tasks[7]["data"] == data


def test_without_its_search_a_task_says_what_to_do(project: Project) -> None:
    project.jobs.results = {}
    [found] = project.rescore()
    assert isinstance(found, Rescored)
    assert "`eacps search-again`" in found.problem


def test_an_unjudged_result_is_judged_under_the_same_settings(project: Project) -> None:
    meta = project.site.tasks[7]["data"][META]
    assert meta["ranked"]
    project.rescore()
    for card in project.site.tasks[7]["data"]["candidates"]:
        card[RECORD]["potential"] = None
    assert [type(each) for each in project.rescore()] == [Rescored]
