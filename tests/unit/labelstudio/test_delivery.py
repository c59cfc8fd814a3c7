"""Delivery to a Label Studio that fails: what ends with a report, and what comes later."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from dbos import DBOS
from PIL import Image
from pydantic import SecretStr

from eacps.artifacts import open_store
from eacps.domain import Candidate, SearchResult, to_json
from eacps.errors import TaskError
from eacps.jobs import orchestrator
from eacps.jobs.contract import Job
from eacps.jobs.database import Records, Row
from eacps.jobs.large_values import without_large_values
from eacps.jobs.losses import MOST_LOSSES
from eacps.jobs.orchestrator import Workflows
from eacps.jobs.wakeups import Wakeups
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.tasks.origins import META, broken_field, origin_of
from eacps.labelstudio.web.predictor import tasks_created
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio, Reply, refusal
from tests.unit.labelstudio.support import Queue, make_result

PAGE = b"<html>We are back soon.</html>"


@dataclass
class Journal:
    """What DBOS would store, and how long it would sleep."""

    sleeps: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.on_sleep()


@dataclass
class Delivery:
    """A finished search of task 7, on its way to a recording Label Studio."""

    site: RecordedLabelStudio
    settings: Settings
    journal: Journal
    content: dict[str, Any]
    workflows: Workflows

    def deliver(self) -> dict[str, Any]:
        return self.workflows.deliver(self.content)

    @property
    def data(self) -> dict[str, Any]:
        return dict(self.site.tasks[7]["data"])

    def fail(self, reply: Reply, method: str, path: str, times: int = 10_000) -> None:
        left = [reply] * times

        def fault(asked: str, where: str) -> Reply | None:
            return left.pop() if left and asked == method and where.startswith(path) else None

        self.site.fault = fault


class StoredSearch:
    """Records that hold one finished search."""

    def __init__(self, result: SearchResult) -> None:
        self._row = Row("search:k", "SUCCESS", 0, 0, 0, {}, {"result": to_json(result)})

    def rows(self, ids: list[str]) -> dict[str, Row]:
        return dict.fromkeys(ids, self._row)


def with_images(result: SearchResult, settings: Settings) -> SearchResult:
    store = open_store(settings)

    def stored(candidate: Candidate, number: int) -> Candidate:
        if candidate.failure:
            return candidate
        content = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(content, "PNG")
        name = store.put(content.getvalue(), "png")
        return replace(candidate, image=name, thumbnail=name)

    candidates = tuple(stored(each, number) for number, each in enumerate(result.candidates))
    return replace(result, candidates=candidates)


@pytest.fixture
def delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Delivery]:
    journal = Journal()
    monkeypatch.setattr(orchestrator, "_step", lambda _name, function, *given: function(*given))
    monkeypatch.setattr(DBOS, "sleep", journal.sleep)
    monkeypatch.setattr(DBOS, "set_event", lambda _key, note: journal.notes.append(note))
    with RecordedLabelStudio() as site:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(TOKEN),
        )
        task = site.add_task(7, {"image": "/data/upload/1/a.png", "prompt": "add a scarf"})
        origin = origin_of(task, settings)
        job = Job(origin.job_id, to_json(origin))
        stored = cast(Records, StoredSearch(with_images(make_result(), settings)))
        hooks = LabelStudioHooks(settings)
        workflows = Workflows(settings, hooks, stored, open_store(settings), Wakeups(stored))
        content = {"job": to_json(job), "key": "k", "failure": None}
        yield Delivery(site, settings, journal, content, workflows)


def test_a_result_is_delivered_once(delivery: Delivery) -> None:
    assert delivery.deliver() == {"failure": None}
    assert delivery.deliver() == {"failure": None}
    assert len(delivery.data["gallery"]) == 3
    assert len(delivery.site.predictions) == 1
    assert len(delivery.site.files) == 3


SPELLS: dict[str, Reply] = {
    "401": refusal(401, "Invalid token."),
    "403": refusal(403, "You do not have permission."),
    "404 of a proxy": (404, PAGE),
    "404 of a proxy as JSON": (404, {"detail": "Not found."}),
    "a page with 200": (200, PAGE),
    "a redirect that looks like a task": (302, {"data": {}}, {"Location": "/"}),
    "half an answer": (200, b'{"id": 7, "da'),
    "500": refusal(500, "database is locked"),
}


@pytest.mark.parametrize("reply", SPELLS.values(), ids=SPELLS.keys())
@pytest.mark.parametrize("path", ["/", "/api/tasks/", "/api/projects/", "/api/predictions/"])
def test_a_spell_of_wrong_answers_delays_a_delivery(
    delivery: Delivery, reply: Reply, path: str
) -> None:
    left = [reply] * 3
    delivery.site.fault = lambda _method, where: left.pop() if left and where.startswith(
        path
    ) and "whoami" not in where else None  # fmt: skip
    assert delivery.deliver() == {"failure": None}
    assert len(delivery.site.predictions) == 1
    assert delivery.data[META]["ranked"]
    if not left:
        assert sum(delivery.journal.sleeps) <= 7
        assert "Next try in" in delivery.journal.notes[0]


def test_a_rejected_token_is_waited_for_as_long_as_it_takes_and_said(delivery: Delivery) -> None:
    delivery.site.token = "another"

    def heal_after_an_hour() -> None:
        if sum(delivery.journal.sleeps) > 3600:
            delivery.site.token = TOKEN

    delivery.journal.on_sleep = heal_after_an_hour
    assert delivery.deliver() == {"failure": None}
    assert max(delivery.journal.sleeps) == 60
    assert "LABEL_STUDIO_API_KEY" in delivery.journal.notes[0]


def test_a_pause_that_label_studio_asks_for_is_kept(delivery: Delivery) -> None:
    left: list[Reply] = [(429, PAGE, {"Retry-After": "90"}), (503, PAGE, {"Retry-After": "120"})]
    delivery.site.fault = lambda *_: left.pop() if left else None
    assert delivery.deliver() == {"failure": None}
    assert delivery.journal.sleeps == [120, 90]


def test_a_permanent_refusal_ends_with_a_report_on_the_task(delivery: Delivery) -> None:
    delivery.fail((413, PAGE), "POST", "/api/projects/1/import")
    ended = delivery.deliver()
    assert ended["failure"]["code"] == "label_studio_too_large"
    assert ended["temporary"] is False
    assert "client_max_body_size" in delivery.data["report_md"]
    assert delivery.data[META]["failed"] == "label_studio_too_large"
    assert not delivery.journal.sleeps


def test_a_candidate_that_is_lost_again_and_again_ends_with_a_report_on_the_task(
    delivery: Delivery,
) -> None:
    for path in (delivery.settings.data_dir / "artifacts").rglob("*.png"):
        path.unlink()
    delivery.content["job"]["losses"] = MOST_LOSSES
    ended = delivery.deliver()
    assert ended["failure"]["code"] == "artifact_missing"
    assert "no longer exists" in delivery.data["report_md"]


def test_a_task_with_a_large_value_is_delivered_to_and_reported_to(delivery: Delivery) -> None:
    picture = "data:image/png;base64," + 3000 * "iVBO"
    delivery.site.tasks[7]["data"]["image"] = picture
    origin = origin_of(delivery.site.tasks[7], delivery.settings)
    job = Job(origin.job_id, to_json(origin))
    store = open_store(delivery.settings)
    delivery.content["job"] = to_json(without_large_values(job, store.put))
    assert delivery.deliver() == {"failure": None}
    assert delivery.data[META]["job"] == job.id
    assert delivery.data["image"] == picture
    # When the value itself is lost, the task still gets its report.
    for path in (delivery.settings.data_dir / "artifacts").rglob("*.json"):
        path.unlink()
    delivery.site.tasks[7]["data"] = {"image": picture, "prompt": "add a scarf"}
    delivery.content["job"]["losses"] = MOST_LOSSES
    assert delivery.deliver()["failure"]["code"] == "artifact_missing"
    assert "no longer exists" in delivery.data["report_md"]


def test_a_prediction_that_is_refused_for_long_comes_later_and_the_cards_stay(
    delivery: Delivery,
) -> None:
    delivery.fail(refusal(500, "no"), "POST", "/api/predictions/")
    ended = delivery.deliver()
    assert ended["failure"]["code"] == "label_studio_stumbled"
    assert ended["temporary"] is True
    assert delivery.data["gallery"], "the report must not take the result's place"
    delivery.site.fault = lambda *_: None
    assert delivery.deliver() == {"failure": None}
    assert len(delivery.site.predictions) == 1


def test_a_task_that_cannot_be_written_gives_its_place_to_others(delivery: Delivery) -> None:
    delivery.fail(refusal(500, "no"), "PATCH", "/api/tasks/7/")
    ended = delivery.deliver()
    assert ended["temporary"] is True
    # Once for the result, and once for the report.
    assert delivery.journal.sleeps == [1, 2, 4, 1, 2, 4]


def test_nothing_is_delivered_to_a_deleted_task(delivery: Delivery) -> None:
    del delivery.site.tasks[7]
    assert delivery.deliver() == {"failure": None}
    assert delivery.site.writes == []


@pytest.mark.parametrize("prompt", ["add a \ud83d hat", "\ude00"])
def test_a_text_with_half_a_character_gets_a_report(delivery: Delivery, prompt: str) -> None:
    site, settings = delivery.site, delivery.settings
    task = site.add_task(8, {"image": "/data/upload/1/a.png", "prompt": prompt})
    queue = Queue()
    assert tasks_created({"tasks": [task], "project": {"id": 1}}, settings, queue) == 1
    assert tasks_created({"tasks": [task], "project": {"id": 1}}, settings, queue) == 0
    ((job, entry),) = queue.entries.items()
    json.dumps(entry.origin, ensure_ascii=False).encode()
    hooks = LabelStudioHooks(settings)
    with pytest.raises(TaskError) as caught:
        hooks.prepare(entry.origin)
    assert caught.value.code == "bad_text"
    assert "`prompt`" in caught.value.message
    hooks.deliver_failure(entry.origin, orchestrator.failure_of(caught.value))
    data = site.tasks[8]["data"]
    assert "half a character" in data["report_md"]
    assert data["prompt"] == prompt
    assert data[META]["job"] == job


def test_whole_characters_and_their_replacement_are_no_halves(delivery: Delivery) -> None:
    text = "add a \U0001f600 hat \ufffd [D83D] \\ud83d"
    task = delivery.site.add_task(8, {"image": "/a.png", "prompt": text})
    asked = origin_of(task, delivery.settings)
    assert asked.data["prompt"] == text
    assert broken_field(asked) == ""
