"""label-studio-ml 2.x is not on the package index: a double of its base class and app.

`tests/integration/test_label_studio_ml_2.py` runs against the real one where it is installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eacps.settings import Settings
from tests.unit.labelstudio.support import Queue

CACHE = """
import os
import sqlite3

class SqliteCache:
    def __init__(self, path):
        os.makedirs(path, exist_ok=True)
        self.name = os.path.join(path, "cache.db")
        self.run("CREATE TABLE IF NOT EXISTS cache (project_id TEXT, key TEXT, value TEXT)")

    def run(self, *statement):
        with sqlite3.connect(self.name) as connection:
            return connection.execute(*statement)

    def __getitem__(self, keys):
        statement = "SELECT value FROM cache WHERE project_id = ? AND key = ?"
        found = self.run(statement, keys).fetchone()
        return found and found[0]

    def __setitem__(self, keys, value):
        if not isinstance(value, str):
            raise ValueError("Value must be a string")
        self.run("INSERT INTO cache VALUES (?, ?, ?)", (*keys, value))
"""
MODEL = """
import json
import os
from abc import ABC
from xml.etree import ElementTree

from semver import Version

from .cache import SqliteCache

CACHE = SqliteCache(os.getenv("MODEL_DIR", "."))

class LabelStudioMLBase(ABC):
    def __init__(self, project_id=None, label_config=None):
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.model_version:
            self.set("model_version", "0.0.1")
        self.setup()

    def get(self, key):
        return CACHE[self.project_id, key]

    def set(self, key, value):
        CACHE[self.project_id, key] = value

    @property
    def label_config(self):
        return self.get("label_config")

    @property
    def parsed_label_config(self):
        return json.loads(self.get("parsed_label_config"))

    @property
    def extra_params(self):
        return json.loads(self.get("extra_params") or "{}")

    @property
    def model_version(self):
        return Version.parse(self.get("model_version") or "0.0.1")

    def use_label_config(self, label_config):
        ElementTree.fromstring(label_config)
        self.set("label_config", label_config)

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
    project = str(data.get("project")).split(".", 1)[0]
    model = MODEL_CLASS(project_id=project, label_config=data.get("label_config"))
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
    for name, source in {"__init__": "", "cache": CACHE, "model": MODEL, "api": API}.items():
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
def test_its_cache_is_not_made_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    monkeypatch.chdir(folder)
    model = importlib.import_module("model")
    assert not list(folder.iterdir())
    assert model.EacpsModel(project_id="3", label_config="<not xml").predict([]) == []


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
