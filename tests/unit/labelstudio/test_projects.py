"""Projects with settings of their own: what Label Studio told of them is remembered, their results
have their version, and instructions may be typed into their tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from eacps.domain import Failure, to_json
from eacps.errors import TaskError
from eacps.jobs.client import JobClient
from eacps.jobs.contract import INTERACTIVE_PRIORITY
from eacps.labelstudio import cards, model_versions
from eacps.labelstudio.client import open_client
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.model_versions import show_version
from eacps.labelstudio.tasks.origins import origin_of
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.predictor import annotated
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio, Reply, refusal
from tests.unit.labelstudio.support import Queue, make_result

BACKEND = "http://backend.example:9090"
OWN = label_config().replace("<View", '<View eacps_strategy="best_of_n" eacps_budget="3"', 1)


@pytest.fixture
def server(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=tmp_path,
        label_studio_url="http://label-studio.example",
        predict_wait_seconds=0,
        public_url=BACKEND,
    )


@pytest.fixture
def web(server: Settings, queue: Queue) -> FlaskClient:
    client = create_app(server, open_jobs=lambda _: queue).test_client()
    # As Label Studio does; until the queue is open, /setup does not wait for it.
    client.get("/status.json")
    return client


def ask(web: FlaskClient, project: int, config: str = "", **data: Any) -> Any:
    task = {"id": project * 10, "project": project, "data": {"image": "/a", "prompt": "x", **data}}
    body = {"tasks": [task], "label_config": config, "project": f"{project}.17"}
    return web.post("/predict", json=body).get_json()


def set_up(web: FlaskClient, project: int, config: str = "", **more: Any) -> Any:
    body = {"project": f"{project}.17", "schema": config, "extra_params": None, **more}
    return web.post("/setup", json=body).get_json()


def chosen(queue: Queue) -> dict[int, Any]:
    entries = queue.entries.values()
    return {each.origin["project"]: each.origin.get("project_choices", {}) for each in entries}


def test_extra_parameters_come_with_setup_and_are_remembered(
    web: FlaskClient, server: Settings, queue: Queue
) -> None:
    told = set_up(web, 1, extra_params={"eacps_strategy": "eacps", "eacps_budget": 16})
    assert told["model_version"].startswith("eacps-")
    assert set_up(web, 2)["model_version"] == server.model_version
    # Another process of the web server, and a restart later: only the queue remembers.
    other = create_app(server, open_jobs=lambda _: queue).test_client()
    assert ask(other, 1)["model_version"] == told["model_version"]
    assert ask(other, 2)["model_version"] == server.model_version
    assert chosen(queue) == {1: {"strategy": "eacps", "budget": 16}, 2: {}}
    set_up(web, 1, extra_params=None)
    assert ask(other, 1, "", prompt="y")["model_version"] == server.model_version
    web.post("/setup", json={"project": "2.1", "schema": ""})
    assert queue.parameters == {"http://label-studio.example 1": "", **{
        "http://label-studio.example 2": ""}}  # fmt: skip


def test_extra_parameters_may_be_text_and_nonsense_is_told_to_tasks(
    web: FlaskClient, queue: Queue
) -> None:
    set_up(web, 1, extra_params='{"eacps_seed": 7}')
    ask(web, 1)
    assert chosen(queue)[1] == {"seed": 7}
    for number, nonsense in enumerate((["x"], "{", 7, {"a": "x" * 99_999}, {"eacps_editor": "x"})):
        set_up(web, 2 + number, extra_params=nonsense)
        ask(web, 2 + number)
    told = [entry.origin.get("refused", "") for entry in queue.entries.values()][1:]
    assert len(told) == 5
    assert all("extra_params" in each and len(each) < 500 for each in told)


def test_extra_parameters_survive_in_the_jobs_database(server: Settings) -> None:
    jobs = JobClient(server)
    assert jobs.extra_params("http://a 1") == ""
    assert jobs.remember_extra_params("http://a 1", '{"seed": 1}')
    assert not jobs.remember_extra_params("http://a 1", '{"seed": 1}')
    assert jobs.remember_extra_params("http://a 1", '{"seed": 2}')
    jobs.close()
    again = JobClient(server)
    assert again.extra_params("http://a 1") == '{"seed": 2}'
    assert again.extra_params("http://a 2") == ""
    again.close()


def test_two_projects_with_other_fields_and_strategies_share_a_backend(
    web: FlaskClient, server: Settings, queue: Queue
) -> None:
    mine = label_config(server.changed({"image_field": "img", "instruction_field": "words"}))
    config = mine.replace("<View", '<View eacps_strategy="best_of_n" eacps_budget="3"', 1)
    one = ask(web, 1, config, img="/b", words="make it red")
    two = ask(web, 2, label_config())
    assert one["model_version"] != two["model_version"] == server.model_version
    first, second = (entry.origin for entry in queue.entries.values())
    assert first["data"] == {"img": "/b", "words": "make it red"}
    assert second["data"] == {"image": "/a", "prompt": "x"}


# --- the row of this backend


@pytest.fixture
def site() -> Iterator[RecordedLabelStudio]:
    with RecordedLabelStudio() as running:
        yield running


@pytest.fixture
def connected(site: RecordedLabelStudio, server: Settings) -> Settings:
    changes = {"label_studio_url": site.url, "label_studio_api_key": SecretStr(TOKEN)}
    model_versions.forget_attempts()
    return server.changed(changes)


def row(project: int, **more: Any) -> dict[str, Any]:
    return {"id": project, "project": project, "url": f"{BACKEND}/", "title": "mine", **more}


def test_the_backend_renames_its_row_when_the_version_changes(
    site: RecordedLabelStudio, connected: Settings
) -> None:
    site.backends = [row(1, extra_params={"eacps_seed": 1}), row(2, url="http://other.example")]
    client = open_client(connected)
    for project in (1, 2):
        show_version(client, {"id": project, "model_version": "mine"}, "v-2", connected)
    ours, other = site.backends
    assert ours["title"] == "v-2"
    # Label Studio would set the backend up without them.
    assert ours["extra_params"] == {"eacps_seed": 1}
    assert other["title"] == "mine"
    before = len(site.asked)
    for project in (1, 2):
        show_version(client, {"id": project, "model_version": "mine"}, "v-2", connected)
        show_version(client, {"id": project, "model_version": "v-3"}, "v-3", connected)
    assert len(site.asked) == before, "Label Studio calls its backends whenever it lists them"


def test_a_row_that_cannot_be_renamed_fails_no_delivery(
    site: RecordedLabelStudio, connected: Settings
) -> None:
    site.backends = [row(1)]
    site.add_task(7, {"image": "/a", "prompt": "x"})
    origin = to_json(origin_of(site.tasks[7], connected))
    client = open_client(connected)
    answers: list[Reply] = [refusal(400, "no"), (500, {"detail": "down"})]
    for answer in answers:
        model_versions.forget_attempts()
        site.fault = partial(_broken_list, answer)
        show_version(client, {"id": 1, "model_version": "mine"}, "v-2", connected)
        LabelStudioHooks(connected).deliver_failure(origin, Failure("bad_image", "No."))
    assert site.backends[0]["title"] == "mine"


def _broken_list(answer: Reply, _method: str, path: str) -> Reply | None:
    return answer if path == "/api/ml" else None


# --- instructions


def submitted(text: str, *, data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    typed = {"from_name": "instruction", "to_name": "img", "type": "textarea"}
    result = [{**typed, "value": {"text": [text]}}] if text else []
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {"id": 3, "result": result, "was_cancelled": False, **more},
        "project": {"id": 1, "label_config": label_config()},
        "task": {"id": 5, "project": 1, "total_annotations": 1, "data": data or {"image": "/a"}},
    }


def test_an_instruction_that_is_typed_and_submitted_is_searched(
    server: Settings, queue: Queue
) -> None:
    assert annotated(submitted(""), server, queue) == 0
    assert annotated(submitted("add a hat", was_cancelled=True), server, queue) == 0
    assert annotated(submitted("add a hat"), server, queue) == 1
    assert annotated(submitted("add a hat", updated_at="later"), server, queue) == 0
    [entry] = queue.entries.values()
    assert entry.origin["instruction"] == "add a hat"
    assert queue.priorities[entry.id] == INTERACTIVE_PRIORITY
    assert annotated(submitted("add a scarf"), server, queue) == 1


def test_a_result_for_the_typed_instruction_is_not_searched_again(
    server: Settings, queue: Queue
) -> None:
    payload = submitted("add a hat", data={"image": "/a", "prompt": "a scarf"})
    annotated(payload, server, queue)
    [job] = queue.entries
    new = cards.enrichment(
        make_result(),
        lambda name: f"/data/{name}",
        job_id=job,
        model_version=server.model_version,
        instruction="add <b>a hat",
    )
    assert "Instruction: <b>add &lt;b&gt;a hat</b>" in new["report_md"]
    payload["task"]["data"] |= new
    queue.entries.clear()
    assert annotated(payload, server, queue) == 0


@pytest.mark.parametrize(
    "payload", [{}, {"task": 1}, {"annotation": [], "task": {"data": {}}}, {"project": "x"}]
)
def test_a_malformed_annotation_is_ignored(
    server: Settings, queue: Queue, payload: dict[str, Any]
) -> None:
    assert annotated({**submitted("x"), **payload, "annotation": {}}, server, queue) == 0
    assert annotated({**submitted("x"), "project": "x"}, server, queue) == 1


def test_a_typed_instruction_comes_from_the_draft_or_the_newest_annotation(
    server: Settings,
) -> None:
    def typed(text: str) -> list[dict[str, Any]]:
        return list(submitted(text)["annotation"]["result"])

    task = {"data": {"image": "/a", "prompt": "x"}, "annotations": [
        {"id": 1, "result": typed("old")}, {"id": 2, "result": typed("new")}]}  # fmt: skip
    assert origin_of(task, server).instruction == "new"
    drafted = {**task, "drafts": [{"id": 1, "result": typed("draft")}]}
    assert origin_of(drafted, server).instruction == "draft"
    opened = {"result": typed("open")}
    assert origin_of(drafted, server, context=opened).instruction == "open"
    comment = [{**typed("why")[0], "from_name": "comment"}]
    other = {**task, "annotations": [{"id": 1, "result": comment}]}
    assert origin_of(other, server).instruction == ""


def test_a_project_may_have_a_default_instruction(server: Settings, png_of: Any) -> None:
    config = label_config().replace("<View", '<View eacps_default_instruction="add a hat"', 1)
    bare = {"data": {"image": png_of()}}
    assert (
        LabelStudioHooks(server)
        .prepare(to_json(origin_of(bare, server, label_config=config)))
        .instruction
        == "add a hat"
    )
    own = {"data": {**bare["data"], "prompt": "a scarf"}}
    assert origin_of(own, server, label_config=config).instruction == ""
    everybody = server.changed({"default_instruction": "tidy up"})
    assert origin_of(bare, everybody).instruction == "tidy up"
    assert origin_of(bare, everybody, label_config=config).instruction == "add a hat"
    with pytest.raises(TaskError, match="“Instruction for the next search” below"):
        LabelStudioHooks(server).prepare(to_json(origin_of(bare, server)))


@pytest.fixture
def png_of() -> Any:
    from base64 import b64encode

    from tests.unit.labelstudio.support import png

    return lambda: f"data:image/png;base64,{b64encode(png()).decode()}"


def test_what_is_chosen_reaches_the_search_and_its_key(server: Settings, png_of: Any) -> None:
    def prepared(config: str = "", **data: Any) -> Any:
        task = {"data": {"image": png_of(), "prompt": "x", **data}}
        origin = to_json(origin_of(task, server, label_config=config))
        return LabelStudioHooks(server).prepare(json.loads(json.dumps(origin)))

    plain, own = prepared(), prepared(OWN, eacps_steps=20, eacps_weights={"pf": 1.0})
    assert plain.settings == {}
    assert "settings" not in to_json(plain)
    assert own.plan.strategy == "best_of_n"
    assert own.plan.params == {"n": 3}
    assert own.plan.steps == 20
    assert own.settings == {"steps": 20, "potential": "weighted", "weights": {"pf": 1.0}}
    assert len({each.key for each in (plain, own, prepared(OWN), prepared(eacps_seed=1))}) == 4
    assert prepared(OWN).model_version == own.model_version != server.model_version
