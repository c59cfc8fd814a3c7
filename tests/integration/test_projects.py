"""Two projects with other fields, strategies and budgets share one backend, in a real Label Studio;
pictures that were uploaded by its Import button get their instruction on the review screen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from eacps.demo.tasks import demo_tasks
from eacps.labelstudio.label_config import label_config
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer, label_studio_command
from tests.patience import PATIENCE
from tests.stack import ROOT, Backend, bear_tasks, connected_project, uploaded, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(label_studio_command() is None, reason="no Label Studio on this machine"),
]
CHOICES = 'eacps_strategy="best_of_n" eacps_budget="3" eacps_steps="8" eacps_seed="7"'


@pytest.fixture(scope="module")
def own_backend(server: LabelStudioServer) -> Iterator[Backend]:
    quotas = '{"*": 24}'
    with Backend(server, EACPS_CATCH_UP_MINUTES="0", EACPS_PROJECT_QUOTAS=quotas) as running:
        yield running


def own_config(choices: str = CHOICES) -> str:
    fields = Settings(_env_file=None, image_field="img", instruction_field="instruction")
    return label_config(fields).replace("<View", f"<View {choices}", 1)


def configure(server: LabelStudioServer, project: int, config: str) -> None:
    server.call("PATCH", f"/api/projects/{project}/", json={"label_config": config})


def row_of(server: LabelStudioServer, project: int) -> dict[str, Any]:
    [row] = server.call("GET", f"/api/ml?project={project}")
    return dict(row)


def predicted(server: LabelStudioServer, backend: Backend, task: int) -> dict[str, Any]:
    wait_until(
        lambda: server.predictions(task),
        lambda: f"{server.data(task).get('report_md')}\n{backend.log()}",
    )
    return dict(server.predictions(task)[-1])


def columns_of_scores(server: LabelStudioServer, project: int) -> list[Any]:
    """The Data Manager's column "Prediction score"."""
    [tab, *_] = server.call("GET", f"/api/dm/views/?project={project}")
    rows = server.call("GET", f"/api/tasks?project={project}&view={tab['id']}&fields=all")
    return [row["predictions_score"] for row in rows["tasks"]]


def test_two_projects_have_their_own_fields_strategies_budgets_and_versions(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    usual = connected_project(server, own_backend)
    other = connected_project(server, own_backend)
    configure(server, other, own_config())
    names = {"image": "img", "prompt": "instruction"}
    [one] = server.import_tasks(usual, bear_tasks(server, usual, 1, seed=31))
    renamed = [
        {names[name]: value for name, value in task.items()}
        for task in bear_tasks(server, other, 2, seed=32)
    ]
    two, third = server.import_tasks(other, [renamed[0], {**renamed[1], "eacps_budget": 2}])
    first, second = (predicted(server, own_backend, task) for task in (one, two))
    last = predicted(server, own_backend, third)

    server_version = own_backend.status()["model_version"]
    assert first["model_version"] == server_version
    assert second["model_version"] == last["model_version"] != server_version
    assert second["model_version"].startswith("best_of_n-")
    assert [len(server.data(task)["candidates"]) for task in (one, two, third)] == [8, 3, 2]
    made = [card["candidate"] for card in server.data(two)["candidates"]]
    assert {card["steps"] for card in made} == {8}
    # The project follows, or its column of scores would be empty.
    wait_until(lambda: row_of(server, other)["title"] == second["model_version"], own_backend.log)
    assert row_of(server, usual)["title"] == server_version
    for project in (usual, other):
        scores = columns_of_scores(server, project)
        assert all(isinstance(score, float) for score in scores), scores

    # It adds the panel, and keeps what the project has chosen.
    again = own_backend.command("connect", "--project", str(other)).stdout
    assert "fields `img` and `instruction`" in again
    kept = server.call("GET", f"/api/projects/{other}/")["label_config"]
    assert CHOICES in kept
    assert 'value="$img"' in kept
    assert row_of(server, other)["title"] == second["model_version"]


def test_extra_parameters_of_the_backends_row_count_after_a_restart_too(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    project = connected_project(server, own_backend)
    row = row_of(server, project)
    extra = {"strategy": "best_of_n", "eacps_budget": 2}
    body = {"url": row["url"], "project": project, "extra_params": extra}
    server.call("PATCH", f"/api/ml/{row['id']}", json=body)
    own_backend.stop()
    own_backend.start()
    [task] = server.import_tasks(project, bear_tasks(server, project, 1, seed=33))
    found = predicted(server, own_backend, task)
    assert found["model_version"].startswith("best_of_n-")
    assert len(server.data(task)["candidates"]) == 2
    assert row_of(server, project)["extra_params"] == extra


def test_a_project_that_was_there_before_keeps_its_jobs_and_results_when_it_chooses(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    project = connected_project(server, own_backend)
    [task] = server.import_tasks(project, bear_tasks(server, project, 1, seed=34))
    before = predicted(server, own_backend, task)
    held = server.data(task)
    configure(server, project, label_config().replace("<View", f"<View {CHOICES}", 1))
    row_of(server, project)
    server.call(
        "POST",
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
        json={"selectedItems": {"all": False, "included": [task]}},
    )
    assert server.data(task) == held
    assert [row["id"] for row in server.predictions(task)] == [before["id"]]
    own_backend.command("search-again", str(project))
    wait_until(lambda: server.data(task)["eacps"]["job"] != held["eacps"]["job"], own_backend.log)
    assert len(server.data(task)["candidates"]) == 8 + 3
    wait_until(
        lambda: any(
            row["model_version"].startswith("best_of_n-") for row in server.predictions(task)
        ),
        own_backend.log,
    )


def test_what_the_server_refuses_is_said_in_the_task(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    project = connected_project(server, own_backend)
    configure(server, project, own_config('eacps_budget="100000"'))
    [bear] = demo_tasks(1, 35)
    image = uploaded(server, project, "bear.png", bear.image)
    [task] = server.import_tasks(project, [{"img": image, "instruction": bear.instruction}])
    wait_until(lambda: "report_md" in server.data(task), own_backend.log)
    assert "EACPS_MAX_CANDIDATES" in server.data(task)["report_md"]
    assert server.data(task)["eacps_state"] == "failed: bad_choice"
    configure(server, project, own_config('eacps_strategy="best_of_n" eacps_budget="2"'))
    server.call("GET", f"/api/tasks/{task}/")
    server.call(
        "POST",
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
        json={"selectedItems": {"all": False, "included": [task]}},
    )
    predicted(server, own_backend, task)
    assert len(server.data(task)["candidates"]) == 2


def test_label_studio_accepts_the_example_of_a_project(server: LabelStudioServer) -> None:
    project = server.create_project((ROOT / "examples" / "own-project.xml").read_text())
    found = server.call("GET", f"/api/projects/{project}/")
    assert 'eacps_budget="16"' in found["label_config"]


def test_a_picture_of_the_import_button_is_searched_once_an_instruction_is_typed(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    project = connected_project(server, own_backend)
    [bear] = demo_tasks(1, 36)
    content = io.BytesIO()
    bear.image.save(content, "PNG")
    # As the Import dialog does: Label Studio makes the task itself, with the picture alone.
    sent = requests.post(
        f"{server.url}/api/projects/{project}/import",
        headers={"Authorization": f"Token {server.token}"},
        files={"file": ("bear.png", content.getvalue(), "image/png")},
        timeout=PATIENCE,
    )
    assert sent.status_code == 201, sent.text
    [row] = server.call("GET", f"/api/projects/{project}/tasks/")
    task = int(row["id"])
    wait_until(lambda: "report_md" in server.data(task), own_backend.log)
    assert "Instruction for the next search" in server.data(task)["report_md"]
    assert server.data(task)["eacps_state"] == "failed: no_instruction"
    typed = {"from_name": "instruction", "to_name": "img", "type": "textarea"}
    result = [{**typed, "value": {"text": [bear.instruction]}}]
    server.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    predicted(server, own_backend, task)
    data = server.data(task)
    assert data["eacps_state"] == "ready"
    assert bear.instruction in data["report_md"]


def test_a_project_may_have_an_instruction_for_all_its_pictures(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    project = connected_project(server, own_backend)
    [bear] = demo_tasks(1, 37)
    default = f'eacps_default_instruction="{bear.instruction}"'
    configure(server, project, label_config().replace("<View", f"<View {default}", 1))
    image = uploaded(server, project, "bear.png", bear.image)
    [task] = server.import_tasks(project, [{"image": image}])
    predicted(server, own_backend, task)
    assert bear.instruction in server.data(task)["report_md"]


def test_tasks_over_the_quota_wait_and_say_so_until_there_is_more(
    server: LabelStudioServer, own_backend: Backend
) -> None:
    project = connected_project(server, own_backend)
    few = 'eacps_strategy="best_of_n" eacps_budget="12" eacps_steps="2"'
    configure(server, project, label_config().replace("<View", f"<View {few}", 1))
    tasks = server.import_tasks(project, bear_tasks(server, project, 3, seed=38))

    def states() -> list[str]:
        return sorted(server.data(task).get("eacps_state", "") for task in tasks)

    wait_until(lambda: states() == ["ready", "ready", "waiting: quota"], own_backend.log)
    [last] = [task for task in tasks if server.data(task)["eacps_state"] != "ready"]
    assert "EACPS_PROJECT_QUOTAS" in server.data(last)["report_md"]
    told = own_backend.status()["waiting"]
    assert any(f"Project {project}: 1 task waits until tomorrow" in each for each in told)
    own_backend.kill_all()
    own_backend.environment["EACPS_PROJECT_QUOTAS"] = '{"*": 1000}'
    own_backend.start()
    predicted(server, own_backend, last)
    assert states() == ["ready", "ready", "ready"]
    assert own_backend.status()["waiting"] == []
