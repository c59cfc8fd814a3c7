from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from gunicorn.http.errors import InvalidChunkSize, NoMoreData
from pydantic import SecretStr

from eacps.artifacts import open_signer, open_store
from eacps.labelstudio.web import app, compat, predictor
from eacps.labelstudio.web.app import MAX_MALFORMED_TASKS, create_app
from eacps.settings import Settings
from tests.unit.labelstudio.support import Queue, png

REPOSITORY = Path(__file__).resolve().parents[3]


def client_of(settings: Settings, queue: Queue) -> FlaskClient:
    return create_app(settings, open_jobs=lambda _: queue).test_client()


@pytest.fixture(params=[True, False], ids=["label-studio-ml", "own routes"])
def web(
    request: pytest.FixtureRequest,
    settings: Settings,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> FlaskClient:
    monkeypatch.setattr(compat, "is_installed", lambda: request.param)
    return client_of(settings, queue)


def test_predict_works_before_setup(web: FlaskClient, recorded: Any, settings: Settings) -> None:
    answer = web.post("/predict", json=recorded("predict_retrieve"))
    assert answer.status_code == 200
    assert answer.json == {"results": [{}, {}], "model_version": settings.model_version}


def test_setup_always_answers_the_same_version(
    web: FlaskClient, recorded: Any, settings: Settings
) -> None:
    for body in (recorded("setup"), {"schema": "<broken"}, {}):
        assert web.post("/setup", json=body).json == {"model_version": settings.model_version}


def test_annotations_do_not_change_the_version(
    web: FlaskClient, recorded: Any, settings: Settings, queue: Queue
) -> None:
    assert web.post("/webhook", json=recorded("webhook_annotation_created")).status_code == 200
    assert web.post("/setup", json=recorded("setup")).json == {
        "model_version": settings.model_version
    }
    assert not queue.entries


def test_new_tasks_are_enqueued_by_the_webhook(
    web: FlaskClient, recorded: Any, queue: Queue
) -> None:
    assert web.post("/webhook", json=recorded("webhook_tasks_created")).get_json()["jobs"] == 2
    assert len(queue.entries) == 2


def test_two_projects_do_not_share_a_label_config(
    web: FlaskClient, recorded: Any, queue: Queue
) -> None:
    request = recorded("predict_open_task")
    choice = '<View><Choices name="r"><Choice value="Face swap" selected="true"/></Choices></View>'
    other = request | {"label_config": choice, "project": "9.1700000000"}
    other["tasks"] = [task | {"project": 9} for task in request["tasks"]]
    for body in (request, other):
        web.post("/predict", json=body)
    routes = {e.origin["project"]: e.origin["route"] for e in queue.entries.values()}
    assert routes == {3: "edit", 9: "face_swap"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b"\xff\xfe",
        b'{"tasks":',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:9]),
)
@pytest.mark.parametrize("path", ["/predict", "/webhook"])
def test_a_malformed_body_is_answered_with_a_sentence(
    web: FlaskClient, path: str, body: bytes
) -> None:
    answer = web.post(path, data=body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"] == "The request body must be a JSON object."


@pytest.mark.parametrize("broken", [InvalidChunkSize(b"ZZ"), NoMoreData()])
def test_a_body_that_breaks_off_is_the_clients_fault(web: FlaskClient, broken: Exception) -> None:
    class Body(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _: Any) -> int:
            raise broken

    stream = {"wsgi.input": Body(), "wsgi.input_terminated": True}
    answer = web.post("/predict", environ_overrides=stream)
    assert answer.status_code == 400
    assert "ZZ" not in answer.text


def test_tokens_in_requests_are_not_logged_even_when_debugging(
    web: FlaskClient, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    assert (
        web.post("/setup", json={**recorded("setup"), "access_token": "s3cr3t"}).status_code == 200
    )
    login = {"login": "ls", "password": "s3cr3t"}
    web.post("/predict", json={**recorded("predict_open_task"), "params": login})
    logging.getLogger("eacps").debug("the last line")
    assert "the last line" in caplog.text, "nothing is logged here"
    assert "s3cr3t" not in caplog.text


def test_a_huge_body_is_refused(web: FlaskClient) -> None:
    web.application.config["MAX_CONTENT_LENGTH"] = 1000
    assert web.post("/predict", data=b"x" * 2000).status_code == 413


def test_training_requests_are_answered_politely(web: FlaskClient) -> None:
    assert web.post("/webhook", json={"action": "START_TRAINING"}).status_code == 200
    assert web.post("/train", json={"annotations": []}).status_code == 200
    assert web.post("/webhook", json={"action": {"strange": 1}}).status_code == 200


def test_no_answer_shows_a_stack_trace(settings: Settings, recorded: Any) -> None:
    class Broken(Queue):
        def submit_many(self, jobs: Any) -> int:
            raise AssertionError("secret detail")

    web = client_of(settings, Broken())
    for path in ("/webhook", "/predict"):
        answer = web.post(path, json=recorded("webhook_tasks_created"))
        assert b"Traceback" not in answer.data
        assert b"secret detail" not in answer.data
    assert web.get("/no-such-page").get_json()["error"]["code"] == "http_error"


def test_health_needs_neither_queue_nor_password(tmp_path: Path) -> None:
    def unreachable(_: Settings) -> Any:
        raise RuntimeError("no database")

    settings = Settings(
        _env_file=None, data_dir=tmp_path, basic_auth_user="ls", basic_auth_pass=SecretStr("secret")
    )
    web = create_app(settings, open_jobs=unreachable).test_client()
    assert web.get("/health").get_json()["status"] == "UP"
    assert web.get("/").get_json()["status"] == "UP"
    assert web.post("/setup", json={}).status_code == 401
    assert web.post("/setup", json={}, auth=("ls", "wrong")).status_code == 401
    assert web.post("/setup", json={}, auth=("ls", "secret")).status_code == 200


def test_images_are_served_only_under_their_signed_url(settings: Settings) -> None:
    web = client_of(settings, Queue())
    name = open_store(settings).put(png(), "png")
    signer = open_signer(settings)
    path = signer.url(name).removeprefix(settings.resolved_public_url)
    answer = web.get(path)
    assert answer.data == png()
    assert answer.mimetype == "image/png"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    cached = web.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert cached.status_code == 304
    missing = f"{0:040x}.png"
    for wrong in (
        f"/artifacts/{'0' * 32}/{name}",
        f"/artifacts/{signer.signature(missing)}/{missing}",
        f"/artifacts/ü/{name}",
        "/artifacts/x/..%2f..%2furl-secret",
        f"/artifacts/{signer.signature('../x')}/..%2fx",
    ):
        assert web.get(wrong).status_code == 404


def test_the_web_process_stays_light(tmp_path: Path) -> None:
    script = """
import sys, _wsgi, model
assert _wsgi.app.test_client().get("/health").status_code == 200
assert _wsgi.app.test_client().get("/status").status_code == 200
heavy = {"torch", "pandas", "label_studio_sdk", "diffusers", "transformers", "numpy"}
heavy |= {"cv2", "onnxruntime", "insightface"}
print(sorted(heavy & {name for name, module in sys.modules.items() if module}))
import importlib.util
print(importlib.util.find_spec("torch").name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={"PATH": "", "EACPS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[]"
    # It was hidden from label-studio-ml while that was imported, and is there again.
    assert done.stdout.splitlines()[1] == "torch"


def test_the_web_process_needs_no_label_studio_ml(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["label_studio_ml"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "label_studio_ml" else find(name)
import _wsgi, model
web = _wsgi.app.test_client()
answers = [web.get("/"), web.get("/health"), web.post("/setup", json={})]
answers.append(web.post("/predict", json={"tasks": []}))
print([answer.status_code for answer in answers], model.EacpsModel.__mro__[2].__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY, env={"PATH": "", "EACPS_DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "[200, 200, 200, 200] object\n", done.stderr


def test_every_answer_tells_browsers_to_be_careful(settings: Settings) -> None:
    web = client_of(settings, Queue())
    name = open_store(settings).put(png(), "png")
    image = open_signer(settings).url(name).removeprefix(settings.resolved_public_url)
    for path in ("/health", "/status", "/status.json", "/predict", "/nowhere", image):
        headers = web.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        own = path == "/status"
        assert headers["Referrer-Policy"] == ("same-origin" if own else "no-referrer")
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert ("style-src" in policy) == ("script-src 'self'" in policy) == own


def test_a_webhook_needs_its_secret(settings: Settings, recorded: Any, queue: Queue) -> None:
    guarded = settings.model_copy(update={"webhook_secret": SecretStr("open sesame")})
    web = client_of(guarded, queue)
    body = recorded("webhook_tasks_created")
    for wrong in ({}, {"X-EACPS-Webhook-Secret": "open"}, {"X-EACPS-Webhook-Secret": "\xfc"}):
        assert web.post("/webhook", json=body, headers=wrong).status_code == 401
    assert not queue.entries
    right = {"X-EACPS-Webhook-Secret": "open sesame"}
    assert web.post("/webhook", json=body, headers=right).get_json()["jobs"] == 2


def test_more_tasks_than_allowed_are_refused_in_a_sentence(settings: Settings) -> None:
    web = client_of(settings.model_copy(update={"max_tasks_per_request": 3}), Queue())
    answer = web.post("/predict", json={"tasks": [{}] * 4})
    assert answer.status_code == 413
    assert "EACPS_MAX_TASKS_PER_REQUEST" in answer.get_json()["error"]["message"]
    assert len(web.post("/predict", json={"tasks": [0] * 3}).get_json()["results"]) == 3


def test_millions_of_entries_that_are_no_tasks_are_refused_after_a_few(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []

    def is_task(value: object) -> bool:
        read.append(value)
        return isinstance(value, dict) and isinstance(value.get("data"), dict)

    monkeypatch.setattr(predictor, "is_task", is_task)
    web = client_of(settings, queue)
    for entry in ("0", "{}", '{"data":0}'):
        read.clear()
        body = '{"action":"TASKS_CREATED","tasks":[' + ",".join([entry] * 1_000_000) + "]}"
        answer = web.post("/webhook", data=body)
        assert answer.status_code == 400
        assert "not sent by Label Studio" in answer.get_json()["error"]["message"]
        assert len(read) == MAX_MALFORMED_TASKS + 1
    assert not queue.entries


@pytest.mark.parametrize("path", ["/webhook", "/predict"])
def test_a_body_of_too_many_values_is_not_parsed(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(app, "MAX_JSON_VALUES", 1_000)
    web = client_of(settings, queue)
    parsed: list[object] = []
    monkeypatch.setattr(web.application.json, "loads", lambda *given, **_: parsed.append(given))
    for values in (b"0," * 1_000, b"[" * 2_000, b"{}," * 500):
        answer = web.post(path, data=b'{"tasks":[' + values + b"0]}")
        assert answer.status_code == 413
        assert "more than 1,000 JSON values" in json.loads(answer.data)["error"]["message"]
    assert not parsed
