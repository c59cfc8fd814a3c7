"""The status page: what it says, its filters, its buttons, and what it costs to keep it open."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from eacps.domain import Failure
from eacps.faces.download import MODELS
from eacps.jobs.contract import Job, JobState, WorkerStatus
from eacps.labelstudio.web import project_titles, status
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.job_facts import backlog, duration
from eacps.settings import Settings
from tests.patience import wait_until
from tests.unit.labelstudio.support import Queue, make_result


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are not kept, so that tests need not wait for new ones."""
    monkeypatch.setattr(status, "KEEP_SECONDS", -1.0)


def client_of(settings: Settings, queue: Queue) -> FlaskClient:
    return create_app(settings, open_jobs=lambda _: queue).test_client()


@pytest.fixture
def web(settings: Settings, queue: Queue) -> FlaskClient:
    return client_of(settings, queue)


def put(queue: Queue, job: str, state: JobState = "queued", **changes: Any) -> None:
    """Have a job in the queue, such as one of task 1 in project 1."""
    origin = {"task": 1, "project": 1, "route": "edit", **changes.pop("origin", {})}
    queue.submit(Job(job, origin))
    queue.entries[job] = replace(queue.entries[job], state=state, **changes)


class Forms(HTMLParser):
    """The hidden fields of each button of a page, by the id of the button."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, dict[str, str]] = {}
        self._hidden: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._hidden = {}
        elif found.get("type") == "hidden":
            self._hidden[found["name"]] = found["value"]
        elif tag == "button" and "id" in found:
            self.fields[found["id"]] = {**self._hidden, found["name"]: found["value"]}


def press(web: FlaskClient, button: str, page: str = "/status", **headers: str) -> TestResponse:
    """Press a button of a page, as a browser without scripts does."""
    fields = Forms(web.get(page).text).fields[button]
    return web.post(
        "/status/jobs", data=fields, headers={"Sec-Fetch-Site": "same-origin", **headers}
    )


def test_the_status_page_names_failures_and_workers(
    settings: Settings, recorded: Any, queue: Queue
) -> None:
    web = client_of(settings, queue)
    request = recorded("predict_open_task")
    web.post("/predict", json=request)
    queue.end(make_result(), "delivering")
    assert web.get("/status.json").get_json()["running"][0]["finished"] == 3
    queue.end(Failure("bad_image", "The image <b>is</b> broken."))
    facts = web.get("/status.json").get_json()
    assert facts["failures"][0]["failure"]["code"] == "bad_image"
    assert facts["failures"][0]["task"] == request["tasks"][0]["id"]
    assert facts["workers"][0]["device"] == "cpu"
    page = web.get("/status").text
    assert "The image &lt;b&gt;is&lt;/b&gt; broken." in page
    assert settings.model_version in page
    assert f"{settings.label_studio_url}/projects/" in page
    assert page.count("waits: the disk is full") == 1


def test_the_status_page_names_the_engine_for_faces(settings: Settings, tmp_path: Path) -> None:
    def status(folder: Path) -> Any:
        changed = Settings(**{**settings.model_dump(), "face_models": folder})
        web = create_app(changed, open_jobs=lambda _: Queue()).test_client()
        return web.get("/status.json").get_json()["faces"], web.get("/status").text

    facts, page = status(tmp_path / "nowhere")
    assert facts["engine"] == ""
    assert "eacps face-models" in facts["problem"]
    assert "faces: <b>no engine</b>" in page
    for model in MODELS:
        (tmp_path / model.name).touch()
    facts, page = status(tmp_path)
    assert facts == {"setting": "auto", "engine": "basic", "problem": ""}
    assert "faces: <b>basic</b>" in page


ATTACK = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>"


def test_every_part_of_the_status_page_shows_text_as_text(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = Failure(ATTACK, ATTACK)
    origin = {"route_reason": ATTACK, "route": ATTACK, "steer": {"action": ATTACK}}
    put(queue, ATTACK, "failed", failure=failure, origin=origin, finished=9)
    put(queue, "running", "running", note=ATTACK, origin={**origin, "task": ATTACK})
    put(queue, "nothing", "running", origin={"task": None, "project": None}, expected=0, best=None)
    queue.entries["bare"] = replace(queue.entries["nothing"], id=ATTACK + "2", origin={"steer": 1})
    worker = WorkerStatus(ATTACK, ATTACK, ATTACK, 1, 2.4, 0.0, note=ATTACK, release=ATTACK)
    monkeypatch.setattr(queue, "workers", lambda: [replace(worker, draining=True)])
    monkeypatch.setattr(project_titles, "open_client", lambda _: Titles({1: ATTACK}))
    web = client_of(settings, queue)
    wait_until(lambda: web.get("/status.json").get_json()["projects"][0]["title"])
    queries = ("", "?state=all", f"?code={ATTACK}", f"?state={ATTACK}&project=x&after=7-{ATTACK}")
    for query in queries:
        answer = web.get(f"/status{query}")
        assert answer.status_code == 200
        assert answer.text.count("<script") == answer.text.count('<script src="status.js" defer>')
        assert "<img" not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert not re.search(r'="[^"]*<img', answer.text)
    page = web.get("/status").text
    for shown in ("9 of 8", "width:100%", "last heartbeat just now", "preparing"):
        assert shown in page


class Titles:
    """A Label Studio that knows the titles of projects."""

    def __init__(self, titles: dict[int, str]) -> None:
        self.titles = titles
        self.asked: list[dict[str, Any]] = []

    def list_rows(self, path: str, **query: Any) -> list[dict[str, Any]]:
        assert path == "/api/projects/"
        self.asked.append(query)
        return [{"id": number, "title": title} for number, title in self.titles.items()]


@pytest.mark.parametrize(
    ("queued", "ended", "words"),
    [
        (20, 1200, "20 jobs wait. 1,200 ended within the last hour: at that speed, the last one "
         "begins in about 1 minute."),
        (600, 600, "begins in about 60 minutes."),
        (4312, 600, "4,312 jobs wait. 600 ended within the last hour: at that speed, the last one "
         "begins in about 7 hours."),
        (40_000, 600, "begins in about 3 days."),
        (50, 0, "50 jobs wait, and none ended within the last hour."),
    ],
)  # fmt: skip
def test_a_long_queue_is_said_in_words(queued: int, ended: int, words: str) -> None:
    assert words in backlog(queued, ended)


def test_a_short_queue_needs_no_words() -> None:
    assert backlog(19, 0) == ""


def test_the_status_page_survives_a_missing_database(settings: Settings) -> None:
    def unreachable(_: Settings) -> Any:
        raise RuntimeError("no database")

    web = create_app(settings, open_jobs=unreachable).test_client()
    assert web.get("/status").status_code == 200
    assert "cannot be reached" in web.get("/status.json").get_json()["queue_error"]


def test_projects_are_named_by_their_titles(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio = Titles({1: "Bears in hats"})
    monkeypatch.setattr(project_titles, "open_client", lambda _: label_studio)
    put(queue, "a", "running")
    put(queue, "b", "running", origin={"project": 2})
    web = client_of(settings, queue)
    wait_until(lambda: "Bears in hats" in web.get("/status").text)
    facts = web.get("/status.json").get_json()
    assert facts["projects"] == [{"id": 1, "title": "Bears in hats"}, {"id": 2, "title": ""}]
    assert "project 2" in web.get("/status").text
    # Also a project without a title is asked for once.
    assert [query["ids"] for query in label_studio.asked] == ["1,2"]


def test_a_silent_label_studio_leaves_projects_without_titles(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Settings) -> Any:
        raise RuntimeError("no network")

    monkeypatch.setattr(project_titles, "open_client", broken)
    put(queue, "a", "running")
    assert "project 1" in client_of(settings, queue).get("/status").text


def test_jobs_are_filtered_by_the_address(web: FlaskClient, queue: Queue) -> None:
    put(queue, "a")
    put(queue, "b", "failed", origin={"project": 2}, failure=Failure("no_face", "No face."))
    put(queue, "c", "failed", origin={"task": 5}, failure=Failure("down", "It was down."))

    def listed(query: str) -> list[str]:
        return [job["id"] for job in web.get(f"/status.json?{query}").get_json()["jobs"]]

    assert sorted(listed("state=all")) == ["a", "b", "c"]
    assert listed("state=queued") == ["a"]
    assert listed("project=2") == ["b"]
    assert listed("code=down") == listed("state=failed&task=5") == ["c"]
    assert listed("state=done") == []
    assert "jobs" not in web.get("/status.json?state=nonsense&project=-1").get_json()
    page = web.get("/status?state=failed&project=2").text
    assert "<option selected>failed</option>" in page
    assert '<option value="2" selected>2</option>' in page
    assert "There are no such jobs" in web.get("/status?state=done").text


def test_long_lists_have_pages(
    web: FlaskClient, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "PAGE", 3)
    monkeypatch.setattr(status, "COUNTED", 5)
    for number in range(7):
        put(queue, f"j{number}")
    address, seen = "/status.json?state=queued&project=1", []
    while address:
        facts = web.get(address).get_json()
        seen.append([job["id"] for job in facts["jobs"]])
        address = f"/status.json?{facts['next']}" if facts["next"] else ""
    assert seen == [["j6", "j5", "j4"], ["j3", "j2", "j1"], ["j0"]]
    page = web.get("/status?state=queued").text
    assert "more than 5 jobs" in page
    older = re.search(r'id="older" href="([^"]+)"', page)
    assert older
    second = web.get("/status" + older[1].replace("&amp;", "&")).text
    assert "cancel-j3" in second
    assert "cancel-j6" not in second
    assert 'id="newest" href="?state=queued"' in second


def test_a_job_says_when_it_begins_or_ends(
    web: FlaskClient, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    put(queue, "runs", "running", finished=2, expected=8, began=now - 120)
    put(queue, "starts", "running", finished=0, expected=8, began=now - 120)
    for number in range(3):
        put(queue, f"waits{number}")
    monkeypatch.setattr(queue, "speed", lambda: 1 / 60)
    facts = web.get("/status.json?state=all").get_json()
    said = {job["id"]: (job["place"], job["estimate"]) for job in facts["jobs"]}
    assert said["runs"] == (None, "about 6 minutes left")
    assert said["starts"] == (None, "")
    assert said["waits0"] == (1, "begins in about 1 minute")
    assert said["waits2"] == (3, "begins in about 3 minutes")
    monkeypatch.setattr(queue, "speed", lambda: 0.0)
    facts = web.get("/status.json?state=queued").get_json()
    assert {job["estimate"] for job in facts["jobs"]} == {""}


def test_ended_jobs_are_drawn_by_time(web: FlaskClient, queue: Queue) -> None:
    now = time.time()
    for number, minutes in enumerate((1, 1, 40, 600)):
        put(queue, f"d{number}", "done", updated=now - 60 * minutes)
    put(queue, "f", "failed", updated=now - 5, failure=Failure("down", "It was down."))
    put(queue, "old", "done", updated=now - 3 * 86400)
    hour, day = web.get("/status.json").get_json()["throughput"]
    assert (hour["done"], hour["failed"], len(hour["bars"])) == (3, 1, 12)
    assert (day["done"], day["failed"], len(day["bars"])) == (4, 1, 24)
    for chart in (hour, day):
        heights = [bar["done_height"] + bar["failed_height"] for bar in chart["bars"]]
        assert max(heights) == pytest.approx(40, abs=0.2)
    page = web.get("/status").text
    assert "last hour: <b>3</b> done, <b>1</b> failed" in page
    assert page.count("<svg") == 2


def test_a_page_that_has_not_changed_is_not_sent_again(settings: Settings, queue: Queue) -> None:
    # Whether Label Studio answers is found out meanwhile.
    web = client_of(settings.model_copy(update={"label_studio_url": ""}), queue)
    put(queue, "a", "running", created=time.time() - 55)
    first = web.get("/status")
    etag = first.headers["ETag"]
    again = web.get("/status", headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Security-Policy" in again.headers
    queue.entries["a"] = replace(queue.entries["a"], finished=4)
    changed = web.get("/status", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert "4 of 8" in changed.text
    assert web.get("/status?state=all", headers={"If-None-Match": etag}).status_code == 200


def test_many_who_look_at_once_cost_one_look_at_the_queue(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "KEEP_SECONDS", 3600.0)
    looks: list[float] = []
    counts = queue.counts

    def counted() -> Any:
        looks.append(time.time())
        return counts()

    monkeypatch.setattr(queue, "counts", counted)
    web = client_of(settings, queue)
    for _ in range(10):
        web.get("/status")
    assert len(looks) == 1
    # After a button was pressed, everybody sees what came of it.
    put(queue, "a", "failed", failure=Failure("down", "It was down."))
    web.get("/status?state=failed")
    press(web, "retry-a", "/status?state=failed")
    web.get("/status")
    assert len(looks) == 3
    for number in range(100):
        web.get(f"/status?task={number + 1}")


def test_buttons_retry_and_cancel(web: FlaskClient, queue: Queue) -> None:
    put(queue, "a", "failed", failure=Failure("down", "It was down."))
    answer = press(web, "retry-a", "/status?state=failed&project=1")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "../status?state=failed&project=1&said=retried"
    assert queue.retried == ["a"]
    after = web.get(answer.headers["Location"].removeprefix("..")).text
    assert "The job was queued again." in after
    answer = press(web, "cancel-a", "/status?state=all")
    assert queue.entries["a"].state == "cancelled"
    assert "said=cancelled" in answer.headers["Location"]
    # A cancelled job can be retried, also by two people at once.
    fields = Forms(web.get("/status?state=all").text).fields["retry-a"]
    said = [web.post("/status/jobs", data=fields).headers["Location"] for _ in range(2)]
    assert [each.partition("said=")[2] for each in said] == ["retried", "not-retried"]


def test_a_job_that_would_fail_again_says_so(web: FlaskClient, queue: Queue) -> None:
    put(queue, "a", "failed", failure=Failure("no_instruction", "There is no instruction."))
    fields = Forms(web.get("/status").text).fields
    assert "retry-a" not in fields
    wrong = web.post("/status/jobs", data={**fields["retry-anyway-a"], "action": "retry"})
    assert "said=would-fail" in wrong.headers["Location"]
    assert queue.retried == []
    assert "said=retried" in press(web, "retry-anyway-a").headers["Location"]
    assert queue.retried == ["a"]


def test_a_button_of_a_job_that_is_gone_says_so(web: FlaskClient, queue: Queue) -> None:
    put(queue, "a", "running")
    fields = Forms(web.get("/status").text).fields["cancel-a"]
    queue.entries.clear()
    answer = web.post("/status/jobs", data=fields)
    assert "There is no such job any more." in web.get(answer.headers["Location"][2:]).text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Host": "rebound.example"},
    ],
    ids=str,
)
def test_other_pages_press_no_buttons(
    web: FlaskClient, queue: Queue, headers: dict[str, str]
) -> None:
    put(queue, "a", "running")
    fields = Forms(web.get("/status").text).fields["cancel-a"]
    answer = web.post("/status/jobs", data=fields, headers=headers)
    assert answer.status_code == 403
    assert queue.entries["a"].state == "running"


def test_a_button_needs_the_token_of_its_page(
    settings: Settings, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queue, "a", "running")
    web = client_of(settings, queue)
    fields = Forms(web.get("/status").text).fields["cancel-a"]
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    strange = Forms(client_of(other, queue).get("/status").text).fields["cancel-a"]["token"]
    day, _, signature = fields["token"].partition(".")
    for token in ("", "x", "ü", strange, f"{int(day) + 1}.{signature}", signature):
        assert web.post("/status/jobs", data={**fields, "token": token}).status_code == 403
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86_400)
    assert web.post("/status/jobs", data=fields).status_code == 403
    assert web.post("/status/jobs", data={}).status_code == 403
    assert web.get("/status/jobs").status_code == 405
    assert queue.entries["a"].state == "running"
    # A page that was loaded yesterday still works.
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    assert web.post("/status/jobs", data=fields).status_code == 303


def test_with_a_password_buttons_need_it_and_any_name_is_good(
    settings: Settings, queue: Queue
) -> None:
    changed = {"basic_auth_user": "me", "basic_auth_pass": SecretStr("secret")}
    web = client_of(settings.model_copy(update=changed), queue)
    put(queue, "a", "running")
    fields = Forms(web.get("/status", auth=("me", "secret")).text).fields["cancel-a"]
    headers = {"Host": "gpu-box.example", "Origin": "http://gpu-box.example"}
    assert web.post("/status/jobs", data=fields, headers=headers).status_code == 401
    assert web.get("/status.js").status_code == 401
    answer = web.post("/status/jobs", data=fields, headers=headers, auth=("me", "secret"))
    assert answer.status_code == 303


def test_the_script_is_served_and_not_sent_twice(web: FlaskClient) -> None:
    script = web.get("/status.js")
    assert script.mimetype == "text/javascript"
    assert "use strict" in script.text
    again = web.get("/status.js", headers={"If-None-Match": script.headers["ETag"]})
    assert again.status_code == 304


def test_time_spans_are_coarse() -> None:
    spans = (1, 90, 3600, 7200, 86400, 3 * 86400)
    assert [duration(seconds) for seconds in spans] == [
        "1 minute", "2 minutes", "60 minutes", "2 hours", "24 hours", "3 days",
    ]  # fmt: skip


def test_the_facts_are_plain_json(web: FlaskClient, queue: Queue) -> None:
    put(queue, "a", "running")
    assert json.loads(web.get("/status.json?state=all").text)["jobs"][0]["route"] == "edit"
