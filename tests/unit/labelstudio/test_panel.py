"""The panel's routes: what opens them, and what they say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from eacps.artifacts import open_store
from eacps.domain import to_json
from eacps.jobs.contract import Search
from eacps.labelstudio import cards
from eacps.labelstudio.cards.contract import PANEL
from eacps.labelstudio.client import open_client
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import is_unchanged, label_config
from eacps.labelstudio.panel import addresses
from eacps.labelstudio.panel.capability import PanelKeys, open_keys, scope, wanted
from eacps.labelstudio.panel.explaining import convincing, why_it_won
from eacps.labelstudio.panel.grants import Grants
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.origins import new_job, origin_of
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.gunicorn_log import shown_path
from eacps.log import masked
from eacps.settings import Settings
from tests.recorded_label_studio import RecordedLabelStudio
from tests.unit.labelstudio.support import Queue, make_result, png

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
PROJECT, TASK = 1, 5


@pytest.fixture
def label_studio() -> Iterator[RecordedLabelStudio]:
    with RecordedLabelStudio() as running:
        yield running


@pytest.fixture
def connected(settings: Settings, label_studio: RecordedLabelStudio) -> Settings:
    return settings.model_copy(
        update={
            "label_studio_url": label_studio.url,
            "label_studio_api_key": SecretStr(label_studio.token),
        }
    )


@pytest.fixture
def web(connected: Settings, queue: Queue) -> FlaskClient:
    return create_app(connected, open_jobs=lambda _: queue).test_client()


@pytest.fixture
def capability(connected: Settings, label_studio: RecordedLabelStudio) -> str:
    """That of a task with a finished search."""
    result = make_result()
    data = cards.enrichment(
        result, lambda name: f"/data/upload/1/{name}", job_id="j", model_version="v"
    )
    issued = open_keys(connected).issue(PROJECT, TASK, time.time())
    own = {"image": "/data/upload/1/a.png", "prompt": HOSTILE, PANEL: issued}
    label_studio.add_task(TASK, {**own, **data}, PROJECT)
    return issued


def test_the_page_runs_only_our_scripts_and_only_in_label_studio(
    web: FlaskClient, capability: str, label_studio: RecordedLabelStudio
) -> None:
    answer = web.get(f"/panel/{capability}/")
    assert answer.status_code == 200
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    port = label_studio.port
    assert set(policy["frame-ancestors"].split()) == {
        f"http://127.0.0.1:{port}",
        f"http://localhost:{port}",
    }
    assert "X-Frame-Options" not in answer.headers
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert HOSTILE not in answer.text


def test_every_file_of_the_page_is_there_and_may_be_kept(web: FlaskClient, capability: str) -> None:
    page = web.get(f"/panel/{capability}/").text
    base = page.split('href="../..', 1)[1].rsplit("/panel.css", 1)[0]
    for name in ("panel.css", "panel.js", "stage.js", "understand.js"):
        answer = web.get(f"{base}/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("panel.html", "message.html", "../views.py", "none.js"):
        assert web.get(f"{base}/{name}").status_code == 404


def test_no_password_is_asked_for(connected: Settings, queue: Queue, capability: str) -> None:
    locked = connected.model_copy(
        update={"basic_auth_user": "u", "basic_auth_pass": SecretStr("p")}
    )
    web = create_app(locked, open_jobs=lambda _: queue).test_client()
    assert web.get(f"/panel/{capability}/task.json").status_code == 200
    assert web.get("/status").status_code == 401


def tampered(text: str) -> Iterator[str]:
    project, task, issued, signature = text.split(".")
    other = "A" if signature[0] != "A" else "B"
    yield f"{project}.{int(task) + 1}.{issued}.{signature}"
    yield f"{int(project) + 1}.{task}.{issued}.{signature}"
    yield f"{project}.{task}.{int(issued) + 1}.{signature}"
    yield f"0{project}.{task}.{issued}.{signature}"
    yield f"{project}.{task}.{issued}.{other}{signature[1:]}"
    yield f"{project}.{task}.{issued}.{signature[:-1]}"
    yield f"{project}.{task}.{issued}.{signature}A"
    yield f"{project}.{task}.{issued}."
    yield f"{project}.{task}.٣{issued[1:]}.{signature}"
    yield "1" * 5000
    yield "%00"
    yield "..%2f..%2fstatus"


def test_a_tampered_capability_opens_nothing_and_says_why(
    web: FlaskClient, capability: str
) -> None:
    for text in tampered(capability):
        for path in ("", "task.json", "state.json", f"pictures/x/{0:040x}.png"):
            answer = web.get(f"/panel/{text}/{path}")
            assert answer.status_code == 404, text
            assert "scarf" not in answer.text
            assert answer.status_code != 500
    page = web.get(f"/panel/{capability[:-1]}/")
    assert "opens no panel" in page.text
    assert page.mimetype == "text/html"
    assert "'self'" in page.headers["Content-Security-Policy"]


def test_a_task_without_a_panel_says_so(web: FlaskClient) -> None:
    assert "has no panel yet" in web.get("/panel/undefined/").text


def test_the_capability_of_another_label_studio_or_secret_opens_nothing(
    web: FlaskClient, connected: Settings, capability: str
) -> None:
    other = connected.model_copy(update={"label_studio_url": "http://other.example"})
    strangers = PanelKeys([b"guessed"], connected.label_studio_url)
    for keys in (open_keys(other), strangers):
        issued = keys.issue(PROJECT, TASK, time.time())
        assert web.get(f"/panel/{issued}/task.json").status_code == 404


def test_several_secrets_are_accepted_and_the_first_one_signs(settings: Settings) -> None:
    def keys(secrets: str) -> PanelKeys:
        return open_keys(settings.model_copy(update={"panel_secrets": SecretStr(secrets)}))

    old = keys("old").issue(1, 2, 1e9)
    assert keys("new, old").read(old) is not None
    assert keys("new,old").issue(1, 2, 1e9) == keys("new").issue(1, 2, 1e9)
    assert keys("new").read(old) is None
    assert keys("").read(old) is None


@pytest.mark.parametrize(
    "what", [{}, {"project": PROJECT}, {"task": TASK}], ids=["all", "project", "task"]
)
def test_what_was_revoked_says_when_and_what_is_issued_later_opens(
    web: FlaskClient,
    connected: Settings,
    queue: Queue,
    capability: str,
    label_studio: RecordedLabelStudio,
    what: dict[str, int],
) -> None:
    queue.revoke(scope(connected.label_studio_url, **what))
    page = web.get(f"/panel/{capability}/")
    assert page.status_code == 403
    assert "This panel was closed on" in page.text
    for path in ("task.json", "state.json"):
        answer = web.get(f"/panel/{capability}/{path}")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "panel_revoked")
    # A delivery does not open it again; `eacps panel renew` does.
    grants = Grants(connected, open_client(connected))
    row = label_studio.tasks[TASK]
    assert grants.added(row, row["data"]) == row["data"]
    label_studio.projects[PROJECT] = {"id": PROJECT}
    assert list(grants.renew(PROJECT, queue.revoked)) == [TASK]
    fresh = label_studio.tasks[TASK]["data"][PANEL]
    assert web.get(f"/panel/{fresh}/task.json").status_code == 200
    assert web.get(f"/panel/{capability}/task.json").status_code == 403


def test_another_tasks_panel_is_not_closed(
    web: FlaskClient, connected: Settings, queue: Queue, capability: str
) -> None:
    queue.revoke(scope(connected.label_studio_url, task=TASK + 1))
    queue.revoke(scope(connected.label_studio_url, project=PROJECT + 1))
    queue.revoke(scope("http://other.example"))
    assert web.get(f"/panel/{capability}/task.json").status_code == 200


def test_switched_off_it_opens_nothing(connected: Settings, queue: Queue, capability: str) -> None:
    off = connected.model_copy(update={"panel": "off"})
    web = create_app(off, open_jobs=lambda _: queue).test_client()
    answer = web.get(f"/panel/{capability}/")
    assert answer.status_code == 404
    assert "switched off" in answer.text


def test_a_copy_of_a_task_gets_its_own_and_what_others_wrote_stays(settings: Settings) -> None:
    keys = open_keys(settings)
    issued = keys.issue(1, 2, 1e9)
    assert wanted(keys, {}, 1, 2, 1e9) == {PANEL: issued}
    assert wanted(keys, {PANEL: issued}, 1, 2, 2e9) == {}
    copied = wanted(keys, {PANEL: issued}, 1, 3, 1e9)
    assert keys.read(copied[PANEL]) is not None
    for foreign in ("A-12", 7, ["solar"], {"a": 1}):
        assert wanted(keys, {PANEL: foreign}, 1, 2, 1e9) == {}


def test_all_candidates_are_told_with_their_scores_and_texts_stay_texts(
    web: FlaskClient, capability: str, label_studio: RecordedLabelStudio
) -> None:
    content = web.get(f"/panel/{capability}/task.json").get_json()
    assert content["task"]["instruction"] == HOSTILE
    assert [each["label"] for each in content["candidates"]] == ["C1", "C2", "C3", "C4"]
    first, *_, last = content["candidates"]
    assert (first["rank"], first["state"], first["potential"]) == (1, "finished", 0.8)
    assert (last["rank"], last["state"], last["failure"]) == (None, "failed", "Out of memory.")
    assert content["best"] == first["id"]
    assert "C1 is 0.100 ahead of C2" in content["why"]
    assert set(content["metrics"]) == {"pf", "lpips"}
    assert content["pictures"]["original"].startswith("pictures/")
    assert content["may"] == "on"
    # It was asked for without writing: a write could undo a delivery.
    assert not label_studio.writes


def test_orders_are_told_without_names_and_only_of_one_person(
    web: FlaskClient, capability: str, label_studio: RecordedLabelStudio
) -> None:
    ids = [each["id"] for each in label_studio.tasks[TASK]["data"]["candidates"]]

    def annotation(number: int, person: int, **more: Any) -> dict[str, Any]:
        value = {"ranker": {"ranked": [ids[1], ids[0], "gone"], "rejected": [ids[2]], "_": []}}
        ranking = {"from_name": "rank", "to_name": "cands", "type": "ranker", "value": value}
        name = {"created_username": "Ada Byron, 7", "completed_by": person}
        return {"id": number, "result": [ranking], "was_cancelled": False, **name, **more}

    task = label_studio.tasks[TASK]
    task["annotations"] = [annotation(31, 7), annotation(32, 8, was_cancelled=True)]
    content = web.get(f"/panel/{capability}/task.json").get_json()
    assert content["annotations"] == [
        {"id": 31, "ranked": [ids[1], ids[0]], "rejected": [ids[2]], "verdict": ""}
    ]
    assert "Ada" not in json.dumps(content)
    task["annotations"].append(annotation(33, 8))
    content = web.get(f"/panel/{capability}/task.json").get_json()
    assert content["annotations"] == []
    assert "Several people" in content["withheld"]


def test_pictures_come_from_the_store_or_from_label_studio_and_only_those_of_the_task(
    web: FlaskClient, connected: Settings, label_studio: RecordedLabelStudio
) -> None:
    store = open_store(connected)
    kept, copied = png(30, 20, "red"), png(31, 20, "blue")
    first, second = store.put(kept, "png"), store.put(copied, "png")
    result = make_result(2, failed=0)
    both = zip(result.candidates, (first, second), strict=True)
    result = replace(
        result,
        candidates=tuple(replace(each, image=name, thumbnail=None) for each, name in both),
    )
    data = cards.enrichment(
        result, lambda name: f"/data/upload/1/x-{name}", job_id="j", model_version="v"
    )
    issued = open_keys(connected).issue(PROJECT, TASK, time.time())
    source = png(32, 20, "green")
    label_studio.served = {
        f"/data/upload/1/x-{second}": copied,
        "/data/upload/1/a.png": source,
        "/data/upload/1/secret.png": png(9, 9),
    }
    label_studio.add_task(TASK, {"image": "/data/upload/1/a.png", "prompt": "p", **data}, PROJECT)
    (connected.data_dir / "artifacts" / second[:2] / second).unlink()
    content = web.get(f"/panel/{issued}/task.json").get_json()
    for address, wanted_ in [
        (content["candidates"][0]["picture"], kept),
        (content["candidates"][1]["picture"], copied),
        (content["pictures"]["original"], source),
    ]:
        answer = web.get(f"/panel/{issued}/{address}")
        assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", wanted_)
    address = content["candidates"][0]["picture"]
    known = web.get(f"/panel/{issued}/{address}", headers={"If-None-Match": f'"{first}"'})
    assert known.status_code == 304
    # Neither without its mark, nor in another task's panel, nor with another picture's mark.
    other = open_keys(connected).issue(PROJECT, TASK + 1, time.time())
    mark = address.split("/")[1]
    for refused in (
        f"/panel/{other}/{address}",
        f"/panel/{issued}/pictures/{mark}/{second}",
        f"/panel/{issued}/pictures/{'A' * 24}/{first}",
        f"/panel/{issued}/pictures/{mark}/source",
        f"/panel/{issued}/pictures/%C3%A9/source",
    ):
        assert web.get(refused).status_code == 404, refused


def test_an_original_that_is_no_picture_is_not_passed_on(
    web: FlaskClient, connected: Settings, label_studio: RecordedLabelStudio
) -> None:
    issued = open_keys(connected).issue(PROJECT, TASK, time.time())
    page = b"<html><script>alert(1)</script></html>"
    label_studio.served = {"/data/upload/1/a.png": page}
    label_studio.add_task(TASK, {"image": "/data/upload/1/a.png", "prompt": "p"}, PROJECT)
    address = web.get(f"/panel/{issued}/task.json").get_json()["pictures"]["original"]
    answer = web.get(f"/panel/{issued}/{address}")
    assert answer.status_code == 415
    assert b"script" not in answer.data


def test_a_waiting_and_a_running_task_show_where_they_are(
    web: FlaskClient, connected: Settings, label_studio: RecordedLabelStudio, queue: Queue
) -> None:
    label_studio.add_task(TASK, {"image": "/data/upload/1/a.png", "prompt": "p"}, PROJECT)
    job = new_job(origin_of(label_studio.tasks[TASK], connected), 10)
    assert job.subject == shown_by(connected.label_studio_url, TASK)
    queue.submit(job)
    issued = open_keys(connected).issue(PROJECT, TASK, time.time())
    first = web.get(f"/panel/{issued}/state.json")
    assert first.get_json()["running"]
    assert first.get_json()["jobs"][0]["stage"] == "In the queue, behind 2 others."
    again = web.get(f"/panel/{issued}/state.json", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    result = make_result(2, failed=0)
    queue.searches["k"] = Search(result.task, None, result.candidates)
    queue.entries[job.id] = replace(queue.entries[job.id], state="running", key="k")
    content = web.get(f"/panel/{issued}/task.json").get_json()
    assert content["state"]["jobs"][0]["stage"] == "3 of 8 candidates are made."
    assert content["state"]["revision"] != first.get_json()["revision"]
    assert [(c["label"], c["state"]) for c in content["candidates"]] == [
        ("C1", "made"),
        ("C2", "made"),
    ]
    assert content["candidates"][0]["picture"].endswith(str(result.candidates[0].image))


def test_a_search_writes_the_panel_into_its_task_before_it_begins(
    connected: Settings, label_studio: RecordedLabelStudio, tmp_path: Path
) -> None:
    label_studio.served = {"/data/upload/1/a.png": png()}
    label_studio.add_task(TASK, {"image": "/data/upload/1/a.png", "prompt": "p"}, PROJECT)
    hooks = LabelStudioHooks(connected)
    origin = to_json(origin_of(label_studio.tasks[TASK], connected))
    hooks.prepare(origin)
    issued = label_studio.tasks[TASK]["data"][PANEL]
    assert open_keys(connected).read(issued) is not None
    hooks.prepare(origin)
    assert label_studio.tasks[TASK]["data"][PANEL] == issued
    off = connected.model_copy(update={"panel": "off"})
    label_studio.add_task(6, {"image": "/data/upload/1/a.png", "prompt": "p"}, PROJECT)
    LabelStudioHooks(off).prepare(to_json(origin_of(label_studio.tasks[6], off)))
    assert PANEL not in label_studio.tasks[6]["data"]


def test_opening_a_task_that_waits_gives_it_a_panel(
    web: FlaskClient, connected: Settings, label_studio: RecordedLabelStudio
) -> None:
    task = label_studio.add_task(TASK, {"image": "/data/upload/1/a.png", "prompt": "p"}, PROJECT)
    sent = json.loads(json.dumps(task))
    sent["data"]["prompt"] = "what a stranger writes is not stored"
    web.post("/predict", json={"tasks": [sent], "project": "1.1", "label_config": ""})
    deadline = time.monotonic() + 60
    while PANEL not in label_studio.tasks[TASK]["data"] and time.monotonic() < deadline:
        time.sleep(0.01)
    data = label_studio.tasks[TASK]["data"]
    assert data["prompt"] == "p"
    assert open_keys(connected).read(data[PANEL]) is not None


def test_logs_never_hold_a_capability(settings: Settings) -> None:
    issued = open_keys(settings).issue(12, 3456, time.time())
    signature = issued.rsplit(".", 1)[1]
    for path in (f"/panel/{issued}/task.json", f"/proxy/panel/{issued}/", f"//panel/{issued}"):
        assert signature not in shown_path(path)
        assert signature not in masked(f"GET {path} failed")


def test_the_label_config_holds_the_address_for_browsers(settings: Settings) -> None:
    browsers = settings.model_copy(update={"browser_url": "https://labels.example/eacps"})
    config = label_config(browsers)
    assert "src='https://labels.example/eacps/panel/$panel/'" in config
    assert "PANEL_ADDRESS" not in config
    off = label_config(settings.model_copy(update={"panel": "off"}))
    assert "$panel" not in off
    assert is_unchanged(off)
    assert is_unchanged(config)
    assert not is_unchanged(off.replace("Original", "Source"))
    assert "/panel/" not in label_config()


@pytest.mark.parametrize(
    ("browser", "outer", "words"),
    [
        ("http://eacps.example", "https://labels.example", "https address"),
        ("http://0.0.0.0:9090", "http://labels.example", "cannot open"),
        ("http://127.0.0.1:9090", "http://labels.example", "this machine"),
        ("http://127.0.0.1:9090", "https://localhost:8080", ""),
        ("https://eacps.example", "https://labels.example", ""),
        ("http://eacps.example", "http://labels.example", ""),
    ],
)
def test_addresses_that_cannot_work_are_named(
    settings: Settings, browser: str, outer: str, words: str
) -> None:
    given = settings.model_copy(update={"browser_url": browser, "label_studio_browser_url": outer})
    found = addresses.problems(given)
    assert bool(found) == bool(words)
    assert words in "".join(found)


@pytest.mark.parametrize(
    ("outer", "wanted_"),
    [
        ("https://labels.example/studio", "https://labels.example"),
        (
            "http://localhost:8080",
            "http://localhost:8080 http://127.0.0.1:8080",
        ),
        ("http://[::1]:8080", "http://[::1]:8080 http://localhost:8080 http://127.0.0.1:8080"),
        ("", "'none'"),
    ],
)
def test_only_label_studio_may_contain_the_panel(
    settings: Settings, outer: str, wanted_: str
) -> None:
    given = settings.model_copy(update={"label_studio_url": outer})
    assert addresses.ancestors(given) == wanted_


def test_winners_without_confidence_say_so() -> None:
    assert convincing({"score": 0.9, "metrics": {}}) == ""
    assert "scores 4%" in convincing({"score": 0.04, "metrics": {}})
    assert "30% sure that what was asked for is there" in convincing(
        {"score": 0.6, "metrics": {"satisfied": 0.3}}
    )
    assert convincing(None) == ""


def test_why_it_won_names_what_decided() -> None:
    one = {"id": "a", "potential": 0.9, "contributions": {"pf": 0.5, "cons": 0.4}}
    two = {"id": "b", "potential": 0.7, "contributions": {"pf": 0.2, "cons": 0.5}}
    names = {"a": "C1", "b": "C2"}
    assert why_it_won(one, two, names) == (
        "C1 is 0.200 ahead of C2, mostly because of “Follows the instruction” (+0.300); C2 is "
        "better in “Same scene” (+0.100)."
    )
    assert "only candidate" in why_it_won(one, None, names)
