"""Projects that people have: connected wholly or not at all, and disconnected without a trace."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from werkzeug.serving import make_server

from eacps.faces.download import MODELS
from eacps.faces.readiness import CONSENT
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.connect import connect
from eacps.labelstudio.disconnect import disconnect
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.label_config import label_config, same_config
from eacps.labelstudio.steps import Line
from eacps.labelstudio.web.app import create_app
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer, free_port, label_studio_command
from tests.unit.labelstudio.support import Queue

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(label_studio_command() is None, reason="no Label Studio on this machine"),
]
DETECTION = """<?xml version="1.0"?>
<!-- Bears, by us -->
<View style="display: flex">
  <Image name="img" value="$image" zoom="true"/>
  <RectangleLabels name="box" toName="img">
    <Label value="Bear"/><Label value="Cub"/>
  </RectangleLabels>
</View>"""


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


@pytest.fixture(autouse=True)
def queue(settings: Settings) -> Iterator[Queue]:
    """The web server in a thread, with a queue without workers."""
    queue = Queue()
    app = create_app(settings, open_jobs=lambda _: queue)
    web = make_server("127.0.0.1", int(settings.public_url.rsplit(":")[-1]), app, threaded=True)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield queue
    web.shutdown()
    thread.join()
    web.server_close()


def texts(lines: list[Line], *levels: str) -> str:
    return "\n".join(line.text for line in lines if line.level in levels)


def everything(server: LabelStudioServer, project: int) -> dict[str, Any]:
    """All of a project that connecting may change."""
    row = server.call("GET", f"/api/projects/{project}/")
    kept = ("label_config", "evaluate_predictions_automatically", "show_collab_predictions")
    return {
        **{key: row[key] for key in (*kept, "model_version")},
        "backends": [one["url"] for one in server.call("GET", f"/api/ml?project={project}")],
        "webhooks": [one["url"] for one in server.call("GET", f"/api/webhooks/?project={project}")],
        "tabs": [
            one["data"]["title"] for one in server.call("GET", f"/api/dm/views/?project={project}")
        ],
    }


def detection(server: LabelStudioServer, *, draft: bool = False) -> tuple[int, int]:
    """A project with a box around a bear, and its annotated task."""
    project = server.create_project(DETECTION, show_collab_predictions=False)
    data = {"image": "/data/upload/1/a.png", "prompt": "x"}
    [task] = server.import_tasks(project, [{"data": data}])
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0, "rectanglelabels": ["Bear"]}
    size = {"original_width": 10, "original_height": 10}
    region = {"id": "a", "type": "rectanglelabels", "from_name": "box", "to_name": "img", **size}
    kind = "drafts" if draft else "annotations/"
    server.call("POST", f"/api/tasks/{task}/{kind}", json={"result": [{**region, "value": value}]})
    return project, task


def ranking(name: str = "c1") -> dict[str, Any]:
    value = {"ranker": {"ranked": [name], "rejected": []}}
    return {"from_name": "rank", "to_name": "cands", "type": "ranker", "value": value}


@pytest.mark.parametrize("draft", [False, True])
def test_a_config_of_ones_own_gets_the_review_screen_and_loses_nothing(
    server: LabelStudioServer, settings: Settings, draft: bool
) -> None:
    project, task = detection(server, draft=draft)
    before = everything(server, project)
    planned = connect(settings, project, dry_run=True)
    assert "Add the review screen below" in texts(planned, "plan")
    assert "Nothing was changed" in texts(planned, "ok")
    assert everything(server, project) == before
    done = connect(settings, project)
    assert not texts(done, "fail", "warn")
    after = everything(server, project)
    own = DETECTION.partition("?>")[2].strip()
    assert own in after["label_config"]
    assert 'name="eacps_box"' in after["label_config"]
    copy = next(line for line in done if "A copy" in line.text).text.rsplit(" ", 1)[1]
    assert Path(copy.rstrip(".")).read_text() == DETECTION
    assert {line.level for line in connect(settings, project)} == {"ok", "next"}
    server.call("POST", f"/api/tasks/{task}/annotations/", json={"result": [ranking()]})
    assert after["tabs"][-4:] == ["Review", "Ready", "Failed", "Not finished"]
    assert after["backends"] == [settings.public_url]


def test_disconnect_puts_everything_back(server: LabelStudioServer, settings: Settings) -> None:
    project, _ = detection(server)
    before = everything(server, project)
    connect(settings, project)
    connect(settings, project)
    planned = disconnect(settings, project, dry_run=True)
    assert "Remove the webhook" in texts(planned, "plan")
    assert everything(server, project) != before
    done = disconnect(settings, project)
    assert not texts(done, "fail", "warn")
    assert everything(server, project) == before
    assert "not connected" in texts(disconnect(settings, project), "ok")


def test_disconnect_keeps_a_screen_that_annotations_need(
    server: LabelStudioServer, settings: Settings
) -> None:
    for config in (DETECTION, "<View></View>"):
        project = server.create_project(config)
        connect(settings, project)
        installed = everything(server, project)["label_config"]
        data = {"image": "a", "prompt": "x", "candidates": [{"id": "c1", "title": "C1"}]}
        [task] = server.import_tasks(project, [{"data": data}])
        server.call("POST", f"/api/tasks/{task}/annotations/", json={"result": [ranking()]})
        done = disconnect(settings, project)
        assert "annotations were made with its tag `rank`" in texts(done, "warn")
        after = everything(server, project)
        assert after["label_config"] == installed
        assert (after["backends"], after["webhooks"]) == ([], [])


def test_replacing_is_refused_before_anything_changes(
    server: LabelStudioServer, settings: Settings
) -> None:
    project, _ = detection(server)
    before = everything(server, project)
    for dry_run in (True, False):
        lines = connect(settings, project, replace_config=True, dry_run=dry_run)
        assert 'Please add labels to tag with name="box"' in texts(lines, "fail")
        assert "Leave out --replace-config" in texts(lines, "fail")
        assert everything(server, project) == before
    free = server.create_project(DETECTION)
    lines = connect(settings, free, replace_config=True)
    assert "was replaced" in texts(lines, "changed")
    assert same_config(everything(server, free)["label_config"], label_config(settings))
    disconnect(settings, free)
    assert everything(server, free)["label_config"] == DETECTION


def test_names_that_predictions_need_are_refused_in_a_sentence(
    server: LabelStudioServer, settings: Settings
) -> None:
    taken = '<View><Text name="rank" value="$prompt"/><Choices name="a" toName="rank">'
    project = server.create_project(f'{taken}<Choice value="x"/></Choices></View>')
    before = everything(server, project)
    lines = connect(settings, project)
    assert "already has a tag or bucket named `rank`" in texts(lines, "fail")
    assert everything(server, project) == before


def test_a_project_of_a_review_config_changed_by_hand_keeps_it(
    server: LabelStudioServer, settings: Settings
) -> None:
    own = '<View style="margin:0" className'
    changed = label_config(settings).strip().replace("<View className", own, 1)
    project = server.create_project(changed)
    assert "changed by hand" in texts(connect(settings, project), "warn")
    assert everything(server, project)["label_config"] == changed
    assert "replaced" in texts(connect(settings, project, replace_config=True), "changed")


def test_a_merged_screen_is_brought_up_to_date(
    server: LabelStudioServer, settings: Settings
) -> None:
    project, _ = detection(server)
    connect(settings, project)
    config = everything(server, project)["label_config"]
    older = config.replace('title="Not ranked"', 'title="Others"').replace('"Cub"', '"Small"')
    server.call("PATCH", f"/api/projects/{project}/", json={"label_config": older})
    assert "brought up to date" in texts(connect(settings, project), "changed")
    newest = everything(server, project)["label_config"]
    assert newest == config.replace('"Cub"', '"Small"')


@pytest.mark.parametrize("failing", ["/api/webhooks/", "/api/projects/", "/api/dm/views/"])
@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_a_failing_step_or_ctrl_c_leaves_the_project_as_it_was(
    server: LabelStudioServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    how: str,
) -> None:
    project, _ = detection(server)
    before = everything(server, project)
    call = LabelStudioClient.call
    seen: list[str] = []

    def stumbles(self: LabelStudioClient, method: str, path: str, **arguments: Any) -> Any:
        change = method in ("POST", "PATCH") and path.startswith(failing)
        answer = call(self, method, path, **arguments)
        if change and not seen and "validate" not in path:
            # Label Studio has done it, but the answer never arrives.
            seen.append(path)
            if how == "interrupt":
                signal.raise_signal(signal.SIGINT)
            raise LabelStudioError("Label Studio stumbled.")
        return answer

    monkeypatch.setattr(LabelStudioClient, "call", stumbles)
    if how == "interrupt":
        lines: list[Line] = []
        with pytest.raises(KeyboardInterrupt):
            connect(settings, project, tell=lines.append)
        assert "Interrupted" in texts(lines, "fail")
    else:
        lines = connect(settings, project)
        assert "stumbled" in texts(lines, "fail")
    assert seen
    assert "put back" in texts(lines, "warn")
    assert everything(server, project) == before
    assert not texts(connect(settings, project), "fail")


def test_a_project_that_was_made_for_nothing_is_removed(
    server: LabelStudioServer, settings: Settings
) -> None:
    gone = settings.model_copy(update={"public_url": f"http://127.0.0.1:{free_port()}"})
    lines = connect(gone, "Made for nothing", create=True)
    assert "cannot reach" in texts(lines, "fail")
    rows = server.call("GET", "/api/projects/", params={"title": "Made for nothing"})
    assert rows["count"] == 0


@pytest.mark.parametrize("machines", ["one", "two"])
def test_commands_at_the_same_time_connect_once(
    server: LabelStudioServer, settings: Settings, tmp_path: Path, machines: str
) -> None:
    project, _ = detection(server)
    folders = [tmp_path, tmp_path] if machines == "one" else [tmp_path / "a", tmp_path / "b"]
    reports: list[list[Line]] = []

    def one(folder: Path) -> None:
        reports.append(connect(settings.model_copy(update={"data_dir": folder}), project))

    threads = [threading.Thread(target=one, args=[folder]) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2
    if any(texts(lines, "fail") for lines in reports):
        # Two machines have no common lock: one may find that the other was faster.
        assert machines == "two"
        assert not texts(connect(settings, project), "fail")
    after = everything(server, project)
    assert after["label_config"].count('className="review"') == 1
    assert after["backends"] == [settings.public_url]
    assert after["webhooks"] == [f"{settings.public_url}/webhook"]
    assert sorted(after["tabs"]) == sorted(set(after["tabs"]))


def test_tasks_with_other_fields_are_noticed(server: LabelStudioServer, settings: Settings) -> None:
    project = server.create_project("<View></View>")
    server.import_tasks(project, [{"data": {"img": "a", "instruction": "b"}}])
    before = everything(server, project)
    lines = connect(settings, project)
    assert "no field `image`, but `img`, `instruction`" in texts(lines, "fail")
    assert everything(server, project) == before
    half = server.create_project("<View></View>")
    server.import_tasks(half, [{"data": {"image": "a", "instruction": "b"}}])
    assert "EACPS_INSTRUCTION_FIELD" in texts(connect(settings, half), "warn")


def test_consent_is_asked_for_only_where_faces_are_possible(
    server: LabelStudioServer, settings: Settings
) -> None:
    settings.face_models.mkdir()
    for model in MODELS:
        (settings.face_models / model.name).touch()
    bears, people = server.create_project("<View></View>"), server.create_project("<View></View>")
    server.import_tasks(bears, [{"data": {"image": "a", "prompt": "b"}}])
    server.import_tasks(people, [{"data": {"image": "a", "prompt": "b", "reference": "c"}}])
    assert CONSENT not in texts(connect(settings, bears), "warn")
    assert CONSENT in texts(connect(settings, people), "warn")
