"""Against a real Label Studio: connect, delivery, and the review config."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from pydantic import SecretStr
from werkzeug.serving import make_server

from eacps.artifacts import open_store
from eacps.domain import Candidate, Failure, Metric, Noise, SearchResult, Trial, to_json
from eacps.faces.download import MODELS
from eacps.faces.readiness import CONSENT
from eacps.images import encode_png, thumbnail
from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.connect import connect
from eacps.labelstudio.connections import diagnose
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config, same_config
from eacps.labelstudio.steps import Line
from eacps.labelstudio.tasks.origins import origin_of
from eacps.labelstudio.web.app import create_app
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer, free_port, label_studio_command
from tests.patience import PATIENCE
from tests.stack import ROOT
from tests.unit.labelstudio.support import Queue, png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(label_studio_command() is None, reason="no Label Studio on this machine"),
]


@pytest.fixture
def settings(server: LabelStudioServer, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=tmp_path,
        label_studio_url=server.url,
        label_studio_api_key=SecretStr(server.token),
        public_url=f"http://127.0.0.1:{free_port()}",
        predict_wait_seconds=0,
        face_models=tmp_path / "faces",
    )


@pytest.fixture
def queue(settings: Settings) -> Iterator[Queue]:
    """The web server in a thread, with a queue without workers."""
    queue = Queue()
    app = create_app(settings, open_jobs=lambda _: queue)
    port = int(settings.public_url.rsplit(":", 1)[1])
    web = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield queue
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.fixture
def project(server: LabelStudioServer) -> int:
    return server.create_project(label_config())


def texts(lines: list[Line], level: str) -> str:
    return "\n".join(line.text for line in lines if line.level == level)


def searched(settings: Settings, origin: dict[str, Any], count: int = 2) -> SearchResult:
    """A finished search with real image files."""
    task = LabelStudioHooks(settings).prepare(origin)
    store = open_store(settings)
    candidates = []
    for index in range(count):
        image = Image.new("RGB", (40, 30), (index * 40, 90, 90))
        candidates.append(
            Candidate(
                Trial(f"c{index + 1}", Noise(index)),
                image=store.put(encode_png(image), "png"),
                thumbnail=store.put(thumbnail(image), "jpg"),
                metrics=(Metric("pf", 0.3, 0.3, 1.0, 0.3),),
                potential=0.9 - index / 10,
                nfe=12,
            )
        )
    return SearchResult(task, tuple(candidates), nfe=24, seconds=2.0, editor="tiny")


def imported(
    server: LabelStudioServer, settings: Settings, project: int, **data: Any
) -> tuple[int, dict[str, Any]]:
    """A task with an uploaded image, and the origin of the job that it makes."""
    image = server.upload(project, "a.png", png())
    [task] = server.import_tasks(project, [{"data": {"image": image, "prompt": "x", **data}}])
    config = label_config()
    return task, to_json(origin_of(server.task(task), settings, label_config=config))


def test_connect_installs_everything_and_a_second_time_changes_nothing(
    server: LabelStudioServer, settings: Settings, queue: Queue
) -> None:
    project = server.create_project("<View></View>")
    lines = connect(settings, project)
    assert not texts(lines, "fail")
    assert [line.text for line in lines if line.level == "plan"]
    assert f"{server.url}/projects/{project}/data" in texts(lines, "next")
    found = server.call("GET", f"/api/projects/{project}/")
    assert same_config(found["label_config"], label_config(settings))
    assert found["evaluate_predictions_automatically"] is True
    [row] = server.call("GET", f"/api/ml?project={project}")
    assert (row["url"], row["state"]) == (settings.public_url, "CO")
    assert row["model_version"] == settings.model_version
    [hook] = server.call("GET", f"/api/webhooks/?project={project}")
    assert hook["url"] == f"{settings.public_url}/webhook"
    assert {line.level for line in connect(settings, project)} == {"ok", "next"}


def test_connect_asks_for_consent_where_faces_can_be_swapped_and_only_there(
    settings: Settings, queue: Queue, project: int
) -> None:
    assert not texts(connect(settings, project), "warn")
    settings.face_models.mkdir()
    for model in MODELS:
        (settings.face_models / model.name).touch()
    assert CONSENT in texts(connect(settings, project), "warn")


def test_the_data_manager_lists_edits_and_the_scores_of_the_current_settings(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    changed = Settings(_env_file=None, **{**settings.model_dump(), "seed": 1})
    assert changed.model_version in texts(connect(changed, project), "changed")
    [row] = server.call("GET", f"/api/ml?project={project}")
    found = server.call("GET", f"/api/projects/{project}/")
    assert found["model_version"] == row["title"] == changed.model_version
    tabs = server.call("GET", f"/api/dm/views/?project={project}")
    assert [tab["data"]["title"] for tab in tabs] == [
        "Review",
        "Ready",
        "Failed",
        "Not finished",
    ]
    tab = tabs[0]
    pictures = {"tasks:data.gallery": "Image", "tasks:data.reference": "Image"}
    assert tab["data"]["columnsDisplayType"] == pictures
    assert "tasks:data.candidates" in tab["data"]["hiddenColumns"]["explore"]
    assert "tasks:predictions_score" not in tab["data"]["hiddenColumns"]["explore"]


def test_the_doctor_names_connected_projects_and_changes_nothing(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    assert [level for level, _ in diagnose(settings)] == ["ok", "warn"]
    assert not server.call("GET", f"/api/ml?project={project}")
    connect(settings, project)
    assert ("ok", f"project {project} “Test” is connected to {settings.public_url}") in list(
        diagnose(settings)
    )
    [hook] = server.call("GET", f"/api/webhooks/?project={project}")
    server.call("DELETE", f"/api/webhooks/{hook['id']}/")
    assert "warn" in [level for level, _ in diagnose(settings)]


def test_connect_finds_or_makes_a_project_by_its_title(settings: Settings, queue: Queue) -> None:
    assert "--create" in texts(connect(settings, "By title"), "fail")
    assert "was created" in texts(connect(settings, "By title", create=True), "changed")
    again = connect(settings, "By title", create=True)
    assert {line.level for line in again} == {"ok", "next"}


def test_connect_brings_an_annotated_project_of_an_earlier_version_to_this_screen(
    server: LabelStudioServer, settings: Settings, queue: Queue
) -> None:
    earlier = (ROOT / "backend/eacps/labelstudio/label_config_0.2.xml").read_text()
    project = server.create_project(earlier)
    data = {"prompt": "x", "image": "y", "candidates": [{"id": "c1", "title": "C1"}]}
    [task] = server.import_tasks(project, [{"data": data}])
    value = {"ranker": {"ranked": ["c1"], "rejected": []}}
    ranking = {"from_name": "rank", "to_name": "cands", "type": "ranker", "value": value}
    result = {"result": [ranking]}
    server.call("POST", f"/api/tasks/{task}/annotations/", json=result)
    assert "up to date" in texts(connect(settings, project), "changed")
    found = server.call("GET", f"/api/projects/{project}/")["label_config"]
    assert same_config(found, label_config(settings))


def test_label_studio_checks_predictions_and_takes_ours(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    task, origin = imported(server, settings, project)
    LabelStudioHooks(settings).deliver(origin, searched(settings, origin))
    [prediction] = server.predictions(task)
    assert prediction["result"][0]["meta"]["best"]["image"]
    region = {**prediction["result"][0], "to_name": "nothing"}
    with pytest.raises(Exception, match="'nothing' not found"):
        server.call("POST", "/api/predictions/", json={"task": task, "result": [region]})


def test_only_tasks_with_candidates_are_in_the_tab_ready(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    done, origin = imported(server, settings, project)
    failed, _ = imported(server, settings, project)
    waiting, _ = imported(server, settings, project)
    hooks = LabelStudioHooks(settings)
    hooks.deliver(origin, searched(settings, origin))
    asked = origin_of(server.task(failed), settings)
    hooks.deliver_failure(to_json(asked), Failure("bad_image", "Use a still image."))
    tabs = server.call("GET", f"/api/dm/views/?project={project}")
    view = next(tab["id"] for tab in tabs if tab["data"]["title"] == "Ready")

    def listed(**query: Any) -> list[int]:
        rows = server.call("GET", f"/api/tasks?project={project}", params=query)["tasks"]
        return [row["id"] for row in rows]

    assert listed(view=view) == [done]
    for state, task in (("ready", done), ("failed", failed)):
        only = {"filter": "filter:tasks:data.eacps_state", "type": "String"}
        only |= {"operator": "contains", "value": state}
        filters = {"filters": {"conjunction": "and", "items": [only]}}
        assert listed(query=json.dumps(filters)) == [task]
    assert sorted(listed()) == sorted([done, failed, waiting])


def test_a_saved_ranking_means_the_same_after_another_search(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    task, origin = imported(server, settings, project)
    hooks, result = LabelStudioHooks(settings), searched(settings, origin)
    hooks.deliver(origin, result)
    [prediction] = server.predictions(task)
    body = {"result": prediction["result"], "parent_prediction": prediction["id"]}
    server.call("POST", f"/api/tasks/{task}/annotations/", json=body)
    saved = prediction["result"][0]["value"]["ranker"]["ranked"]
    before = {card["id"]: card for card in server.data(task)["candidates"]}
    plan = replace(result.task.plan, seed=99)
    swapped = tuple(reversed(result.candidates))
    hooks.deliver(origin, replace(result, task=replace(result.task, plan=plan), candidates=swapped))
    after = {card["id"]: card for card in server.data(task)["candidates"]}
    assert [after[name]["candidate"] for name in saved] == [
        before[name]["candidate"] for name in saved
    ]
    [annotation] = server.call("GET", f"/api/tasks/{task}/annotations/")
    assert annotation["parent_prediction"] == prediction["id"]
    known = annotation["result"][0]["meta"]["candidates"]
    assert {name: card["image"] for name, card in known.items()} == {
        name: before[name]["candidate"]["image"] for name in saved
    }
    assert len(server.predictions(task)) == 2


def test_connect_follows_a_backend_that_moved(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    moved = settings.public_url.replace("127.0.0.1", "localhost")
    connect(settings, project, backend_url=moved)
    assert [r["url"] for r in server.call("GET", f"/api/ml?project={project}")] == [moved]
    hooks = server.call("GET", f"/api/webhooks/?project={project}")
    assert [hook["url"] for hook in hooks] == [f"{moved}/webhook"]


def test_connect_explains_a_backend_that_does_not_run(settings: Settings, project: int) -> None:
    assert "EACPS_PUBLIC_URL" in texts(connect(settings, project), "fail")


def test_connect_explains_wrong_addresses_tokens_and_projects(
    server: LabelStudioServer, settings: Settings, queue: Queue
) -> None:
    def told(**changes: Any) -> str:
        return texts(connect(settings.model_copy(update=changes), 99_999), "fail")

    assert "There is no project 99999." in told()
    assert "does not answer" in told(label_studio_url="http://127.0.0.1:9")
    assert "is not Label Studio" in told(label_studio_url=f"{server.url}/user")
    assert "Personal Access Token" in told(label_studio_api_key=SecretStr("0" * 40))
    assert "No token" in told(label_studio_api_key=SecretStr(""))


def test_password_and_secret_reach_backend_and_webhook(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    secret = SecretStr("secret")
    update = {"basic_auth_user": "ls", "basic_auth_pass": secret, "webhook_secret": secret}
    guarded = settings.model_copy(update=update)
    queue = Queue()
    app = create_app(guarded, open_jobs=lambda _: queue)
    web = make_server("127.0.0.1", int(settings.public_url.rsplit(":", 1)[1]), app, threaded=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        assert not texts(connect(guarded, project), "fail")
        imported(server, guarded, project)
        assert len(queue.entries) == 1
        assert not texts(connect(guarded, project), "changed")
    finally:
        web.shutdown()
        web.server_close()


def test_importing_announces_tasks_and_opening_them_adds_no_second_job(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    task, _ = imported(server, settings, project)
    server.call("GET", f"/api/tasks/{task}/")
    assert len(queue.entries) == 1


def test_a_task_whose_announcement_was_lost_gets_the_same_job(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    server.import_tasks(project, [{"data": {"image": "/data/upload/1/early.png", "prompt": "x"}}])
    connect(settings, project)
    imported(server, settings, project)
    for _ in range(2):
        image = server.upload(project, "a.png", png())
        data = {"image": image, "prompt": "x"}
        annotation: dict[str, Any] = {"result": []}
        server.import_tasks(project, [{"data": data, "annotations": [annotation]}])
    announced = dict(queue.entries)
    assert len(announced) == 3
    queue.entries.clear()
    hooks = LabelStudioHooks(settings)
    found = [job for portion in hooks.overlooked(lambda _: []) for job in portion]
    assert {job.id: job.origin for job in found} == {
        job: entry.origin for job, entry in announced.items()
    }
    assert queue.entries == {}, "to look makes Label Studio ask for no prediction"
    origins = [job.origin for job in found]
    assert not [job for jobs in hooks.overlooked(lambda _: origins) for job in jobs]


def test_a_delivered_task_has_its_images_cards_and_one_prediction(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    task, origin = imported(server, settings, project, own="kept")
    result = searched(settings, origin)
    hooks = LabelStudioHooks(settings)
    hooks.deliver(origin, result)
    hooks.deliver(origin, result)
    stored = server.task(task)
    assert stored["data"]["own"] == "kept"
    image = server.response("GET", stored["data"]["gallery"][0])
    assert Image.open(io.BytesIO(image.content)).getpixel((0, 0)) == (0, 90, 90)
    [prediction] = stored["predictions"]
    assert prediction["model_version"] == settings.model_version
    assert prediction["score"] == pytest.approx(0.9)
    ranked = prediction["result"][0]["value"]["ranker"]["ranked"]
    assert [name.partition("-")[0] for name in ranked] == ["c1", "c2"]


def test_images_are_uploaded_once_even_when_label_studio_forgets_them(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    task, origin = imported(server, settings, project)
    hooks, result = LabelStudioHooks(settings), searched(settings, origin)
    hooks.deliver(origin, result)
    first = server.data(task)["gallery"]
    hooks.deliver(origin, result)
    assert server.data(task)["gallery"] == first
    server.call("DELETE", f"/api/projects/{project}/file-uploads", json={})
    hooks.deliver(origin, result)
    again = server.data(task)["gallery"]
    assert server.response("GET", again[0]).ok


def test_a_deleted_prediction_comes_back_from_the_tasks_data(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    task, origin = imported(server, settings, project)
    LabelStudioHooks(settings).deliver(origin, searched(settings, origin))
    [prediction] = server.predictions(task)
    server.call("DELETE", f"/api/predictions/{prediction['id']}/")
    jobs = len(queue.entries)
    body = {"selectedItems": {"all": False, "included": [task]}, "project": project}
    server.call(
        "POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=body
    )
    [again] = server.predictions(task)
    assert again["result"] == prediction["result"]
    assert len(queue.entries) == jobs


def test_interactive_pre_annotations_that_take_marks_away_are_switched_off(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    (row,) = server.call("GET", f"/api/ml?project={project}")
    changed = {"project": project, "url": row["url"], "is_interactive": True}
    server.call("PATCH", f"/api/ml/{row['id']}", json=changed)
    told = " ".join(text for level, text in diagnose(settings) if level == "warn")
    assert "take away the marks" in told
    assert "switched off" in texts(connect(settings, project), "changed")
    (row,) = server.call("GET", f"/api/ml?project={project}")
    assert row["is_interactive"] is False
    assert "switched off" not in texts(connect(settings, project), "changed")


def test_a_prediction_stored_twice_is_cleaned_up_by_the_delivery(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    task, origin = imported(server, settings, project)
    hooks, result = LabelStudioHooks(settings), searched(settings, origin)
    hooks.deliver(origin, result)
    [prediction] = server.predictions(task)
    copy = {key: prediction[key] for key in ("task", "result", "score", "model_version")}
    server.call("POST", "/api/predictions/", json=copy)
    hooks.deliver(origin, result)
    assert len(server.predictions(task)) == 1
    better = replace(result, candidates=tuple(reversed(result.candidates)))
    hooks.deliver(origin, better)
    [changed] = server.predictions(task)
    ranked = changed["result"][0]["value"]["ranker"]["ranked"]
    assert [name.partition("-")[0] for name in ranked] == ["c2", "c1"]


def test_a_failure_is_a_sentence_on_the_task_and_no_prediction(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    task, origin = imported(server, settings, project)
    LabelStudioHooks(settings).deliver_failure(origin, Failure("bad_image", "Use a still image."))
    stored = server.task(task)
    assert "Use a still image." in stored["data"]["report_md"]
    assert not stored["predictions"]


def test_deleted_and_changed_tasks_end_quietly(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    hooks = LabelStudioHooks(settings)
    changed, origin = imported(server, settings, project)
    result = searched(settings, origin)
    data = server.data(changed) | {"prompt": "something else"}
    server.call("PATCH", f"/api/tasks/{changed}/", json={"data": data})
    hooks.deliver(origin, result)
    assert "candidates" not in server.data(changed)
    server.call("DELETE", f"/api/tasks/{changed}/")
    hooks.deliver(origin, result)
    hooks.deliver_failure(origin, Failure("bad_image", "x"))


def test_regions_of_imported_annotations_become_the_mask(
    server: LabelStudioServer, settings: Settings, queue: Queue, project: int
) -> None:
    connect(settings, project)
    value = {"x": 50, "y": 0, "width": 50, "height": 100, "rotation": 0}
    region = {
        "id": "a",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "img",
        "original_width": 40,
        "original_height": 30,
        "value": value | {"rectanglelabels": ["Edit here"]},
    }
    image = server.upload(project, "a.png", png())
    data = {"image": image, "prompt": "x"}
    server.import_tasks(project, [{"data": data, "annotations": [{"result": [region]}]}])
    [entry] = queue.entries.values()
    task = LabelStudioHooks(settings).prepare(entry.origin)
    assert task.mask is not None
    mask = Image.open(io.BytesIO(open_store(settings).get(task.mask)))
    assert (mask.getpixel((35, 15)), mask.getpixel((5, 15))) == (255, 0)


def test_a_restarted_label_studio_is_waited_for(
    server: LabelStudioServer, settings: Settings, project: int
) -> None:
    task, origin = imported(server, settings, project)
    result = searched(settings, origin)
    hooks = LabelStudioHooks(settings)
    server.stop()
    with pytest.raises(LabelStudioDownError):
        hooks.deliver(origin, result)
    server.start()
    hooks.deliver(origin, result)
    assert len(server.predictions(task)) == 1


def test_a_personal_access_token_works(server: LabelStudioServer, settings: Settings) -> None:
    server.call("POST", "/api/jwt/settings", json={"api_tokens_enabled": True})
    token = server.call("POST", "/api/token/")["token"]
    client = LabelStudioClient(server.url, token)
    assert client.call("GET", "/api/current-user/whoami")["email"]
    body = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
    server.call("POST", "/api/jwt/settings", json=body)
    try:
        assert client.call("GET", "/api/current-user/whoami")["email"]
        with pytest.raises(LabelStudioError) as caught:
            open_client(settings).call("GET", "/api/current-user/whoami")
        assert "Legacy tokens are off by default" in caught.value.hint
    finally:
        headers = client.authorization()
        body["legacy_api_tokens_enabled"] = True
        requests.post(
            f"{server.url}/api/jwt/settings", json=body, headers=headers, timeout=PATIENCE
        )


@pytest.mark.parametrize(
    ("environment", "half_made"),
    [
        ({"LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "true"}, False),
        (
            {"LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "true", "ML_BLOCK_LOCAL_IP": "false"},
            True,
        ),
    ],
)
def test_the_ssrf_rule_is_explained(
    environment: dict[str, str], half_made: bool, settings: Settings, queue: Queue
) -> None:
    with LabelStudioServer(**environment) as strict:
        url = settings.model_copy(update={"label_studio_url": strict.url})
        lines = connect(url, strict.create_project(label_config()))
        assert "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS=false" in texts(lines, "fail")
        assert ("refused its webhook" in texts(lines, "warn")) is half_made


def test_an_address_that_label_studio_cannot_resolve_is_explained(
    settings: Settings, server: LabelStudioServer
) -> None:
    elsewhere = settings.model_copy(update={"public_url": f"http://[::1]:{free_port()}"})
    lines = connect(elsewhere, server.create_project(label_config()))
    assert "Label Studio finds no IPv4 address for ::1." in texts(lines, "fail")
    assert "EACPS_PUBLIC_URL" in texts(lines, "fail")
