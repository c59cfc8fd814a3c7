"""/ready: a status for everybody, sentences for those with the password, and no hanging."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from eacps.errors import EacpsError
from eacps.jobs.contract import WorkerStatus
from eacps.labelstudio.web import readiness
from eacps.labelstudio.web.answered import Answered, NoAnswerError
from eacps.labelstudio.web.app import create_app
from eacps.settings import Settings
from tests.patience import wait_until
from tests.unit.labelstudio.support import Queue

AWAY = OperationalError("SELECT secret_column", {}, Exception("host db.internal refused"))


class Fleet(Queue):
    """A queue with workers of the current settings, whose database may be away."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.live = [
            WorkerStatus("here/orchestrator", "orchestrator", "", 1, 1.0, 0.0, settings.equipment),
            WorkerStatus("here/device-0", "worker", "cpu", 2, 1.0, 0.0, settings.equipment),
        ]
        self.problem: Exception | None = None
        self.gate: threading.Event | None = None

    def check(self) -> None:
        if self.gate is not None:
            self.gate.wait()
        if self.problem is not None:
            raise self.problem

    def workers(self) -> Sequence[WorkerStatus]:
        self.check()
        return self.live


@pytest.fixture
def alone(settings: Settings) -> Settings:
    return settings.model_copy(update={"label_studio_url": ""})


@pytest.fixture
def fleet(alone: Settings) -> Fleet:
    return Fleet(alone)


Asked = Callable[..., tuple[int, dict[str, Any]]]


def client(settings: Settings, fleet: Fleet) -> FlaskClient:
    return create_app(settings, open_jobs=lambda _: fleet).test_client()


def asked(settings: Settings, fleet: Fleet, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = client(settings, fleet).get("/ready", headers=headers)
    return answer.status_code, answer.get_json()


def test_everything_is_there(alone: Settings, fleet: Fleet) -> None:
    status, content = asked(alone, fleet)
    assert (status, content["ready"]) == (200, True)
    assert [name for name, check in content["checks"].items() if not check["ok"]] == []
    required = {name for name, check in content["checks"].items() if check["required"]}
    assert required == {"jobs_database", "artifact_store"}


def test_a_database_that_is_away_makes_it_unready_without_naming_hosts_or_sql(
    alone: Settings, fleet: Fleet
) -> None:
    fleet.problem = AWAY
    status, content = asked(alone, fleet)
    assert (status, content["ready"]) == (503, False)
    told = content["checks"]["jobs_database"]
    assert not told["ok"]
    assert told["message"].startswith("The jobs database is away")
    assert "EACPS_DATABASE_URL" in told["message"]
    assert "db.internal" not in str(content)
    assert "secret_column" not in str(content)


def test_a_database_that_cannot_be_opened_is_told_without_its_host(
    alone: Settings, fleet: Fleet
) -> None:
    fleet.problem = EacpsError("connection to db.internal failed", code="database_failed")
    status, content = asked(alone, fleet)
    assert status == 503
    assert "EACPS_DATABASE_URL" in content["checks"]["jobs_database"]["message"]
    assert "db.internal" not in str(content)


def test_a_store_that_cannot_be_written_makes_it_unready(
    alone: Settings, fleet: Fleet, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    broken = alone.model_copy(update={"artifacts_url": f"file://{blocked}"})
    status, content = asked(broken, fleet)
    assert status == 503
    assert "EACPS_ARTIFACTS_URL" in content["checks"]["artifact_store"]["message"]
    assert content["checks"]["jobs_database"]["ok"]


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (lambda live: [], "worker", "None is running"),
        (lambda live: [], "orchestrator", "None is running"),
        (lambda live: [replace(one, equipment="other") for one in live], "worker", "EACPS_EDITOR"),
    ],
)
def test_missing_workers_are_told_but_work_is_accepted(
    alone: Settings, fleet: Fleet, change: Callable[[Any], Any], name: str, words: str
) -> None:
    fleet.live = change(fleet.live)
    status, content = asked(alone, fleet)
    assert status == 200
    assert not content["checks"][name]["ok"]
    assert words in content["checks"][name]["message"]


def test_label_studio_away_is_told_but_work_is_accepted(settings: Settings, fleet: Fleet) -> None:
    # Nothing listens on port 9 of this machine.
    away = settings.model_copy(update={"label_studio_url": "http://127.0.0.1:9"})
    status, content = asked(away, fleet)
    assert status == 200
    told = content["checks"]["label_studio"]
    assert (told["ok"], told["required"]) == (False, False)
    assert "LABEL_STUDIO_URL" in told["message"]


def test_details_need_the_password_but_the_status_does_not(alone: Settings, fleet: Fleet) -> None:
    change = {"basic_auth_user": "u", "basic_auth_pass": SecretStr("p")}
    locked = alone.model_copy(update=change)
    assert asked(locked, fleet) == (200, {"ready": True})
    assert "checks" in asked(locked, fleet, Authorization="Basic dTpw")[1]
    fleet.problem = AWAY
    assert asked(locked, fleet) == (503, {"ready": False})


@pytest.fixture
def gate(fleet: Fleet) -> Iterator[threading.Event]:
    fleet.gate = threading.Event()
    yield fleet.gate
    fleet.gate.set()


def test_a_database_that_never_answers_is_not_waited_for(
    alone: Settings, fleet: Fleet, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_WAIT_SECONDS", 0.2)
    before = threading.active_count()
    web = client(alone, fleet)
    for _ in range(5):
        answer = web.get("/ready")
        assert answer.status_code == 503
        assert "No answer in" in answer.get_json()["checks"]["jobs_database"]["message"]
    # One thread for each question that hangs, however often it is asked.
    assert threading.active_count() <= before + 5


def test_an_answer_is_kept_for_a_while_and_then_asked_for_again() -> None:
    numbers = iter(range(100))
    kept = Answered(lambda: next(numbers), keep_seconds=3600)
    assert [kept.answer(), kept.answer()] == [0, 0]
    fresh = Answered(lambda: next(numbers), keep_seconds=-1)
    assert [fresh.answer(), fresh.answer()] == [1, 2]


def test_a_late_answer_counts_when_it_comes() -> None:
    gate = threading.Event()

    def ask() -> str:
        gate.wait()
        return "there"

    late = Answered(ask, keep_seconds=3600, wait_seconds=0.01)
    with pytest.raises(NoAnswerError):
        late.answer()
    gate.set()

    def has_come() -> bool:
        return late.answer() == "there"

    wait_until(has_come, forgiven=(NoAnswerError,))
