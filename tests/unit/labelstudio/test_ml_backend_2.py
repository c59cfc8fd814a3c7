"""label-studio-ml 2.x is not on the package index: a double with its constructor and views."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eacps.settings import Settings
from tests.unit.labelstudio.support import Queue

MODEL = """
class LabelStudioMLBase:
    def __init__(self, project_id=None, label_config=None):
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        self.setup()

    @property
    def label_config(self):
        return ""

    @property
    def parsed_label_config(self):
        return {}

    @property
    def extra_params(self):
        return {}

    def use_label_config(self, label_config):
        raise ValueError("a strict parser did not like this config")

    def setup(self):
        pass

    def predict(self, tasks, context=None, **kwargs):
        raise NotImplementedError

    def fit(self, event, data, **kwargs):
        pass
"""
API = """
from flask import Flask, jsonify, request

_server = Flask(__name__)
MODEL_CLASS = None

def init_app(model_class, basic_auth_user=None, basic_auth_pass=None):
    global MODEL_CLASS
    MODEL_CLASS = model_class
    return _server

@_server.route("/predict", methods=["POST"])
def _predict():
    data = request.json
    params = data.get("params") or {}
    context = params.pop("context", {})
    model = MODEL_CLASS(project_id=data["project"], label_config=data["label_config"])
    return jsonify({"results": model.predict(data["tasks"], context=context, **params)})

@_server.route("/setup", methods=["POST"])
def _setup():
    model = MODEL_CLASS(project_id="1", label_config=request.json["schema"])
    return jsonify({"model_version": model.get("model_version")})

@_server.route("/webhook", methods=["POST"])
def webhook():
    raise AssertionError("this would drop TASKS_CREATED")

@_server.route("/health", methods=["GET"])
@_server.route("/", methods=["GET"])
def health():
    return jsonify({"status": "UP", "model_class": MODEL_CLASS.__name__})
"""


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "label_studio_ml"
    package.mkdir()
    for name, source in {"__init__": "", "model": MODEL, "api": API}.items():
        (package / f"{name}.py").write_text(source)
    ours = (
        "eacps.labelstudio.web.app",
        "eacps.labelstudio.web.ml_model",
        "eacps.labelstudio.web.status",
    )
    prefixes = ("label_studio_ml", *ours, "model")
    hidden = {n: m for n, m in sys.modules.items() if n.startswith(prefixes)}
    for name in hidden:
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [n for n in sys.modules if n.startswith(prefixes)]:
        del sys.modules[name]
    sys.modules.update(hidden)


@pytest.mark.usefixtures("version_2")
def test_the_same_backend_runs_on_the_2_x_api(
    settings: Settings, queue: Queue, recorded: Any
) -> None:
    web = importlib.import_module("eacps.labelstudio.web.app")
    model = importlib.import_module("model")
    app = web.create_app(settings, model.EacpsModel, open_jobs=lambda _: queue)
    client = app.test_client()
    assert client.get("/health").json["status"] == "UP"
    assert client.post("/setup", json=recorded("setup")).json == {
        "model_version": settings.model_version
    }
    answer = client.post("/predict", json=recorded("predict_retrieve"))
    assert answer.json["results"] == [{}, {}]
    assert len(queue.entries) == 2
    # Of the webhook's two tasks one is known; the other comes without the region it came with.
    assert client.post("/webhook", json=recorded("webhook_tasks_created")).json["jobs"] == 1
    with app.app_context():
        direct = model.EacpsModel(project_id="3", label_config="<View/>")
        tasks = recorded("predict_open_task")["tasks"]
        assert direct.predict(tasks, context={}, login=None, password=None) == [{}]
        assert direct.model_version == settings.model_version
        assert direct.fit("ANNOTATION_CREATED", {}) == {}
