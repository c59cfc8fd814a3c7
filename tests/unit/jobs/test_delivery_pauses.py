"""How long a delivery is tried: an outage for all is no fault of the request that meets its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eacps.jobs import orchestrator
from eacps.jobs.orchestrator import Workflows
from eacps.settings import Settings

Answer = dict[str, Any]
FOR_ALL: Answer = {"down": "Label Studio is down.", "only_here": False}
FOR_THIS: Answer = {"down": "Label Studio fails on this task.", "only_here": True}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []

    class Dbos:
        sleep = pauses.append
        set_event = staticmethod(lambda *_: None)

    monkeypatch.setattr(orchestrator, "DBOS", Dbos)
    monkeypatch.setattr(orchestrator, "_step", lambda _name, _function, *rest: next(rest[-1]))
    return pauses


def tried(*answers: Answer) -> Answer:
    workflows = Workflows.__new__(Workflows)
    workflows.settings = Settings(_env_file=None)
    given: Iterator[Answer] = iter(answers)
    return workflows._with_retries("deliver", lambda _: {}, given)


def test_a_failure_at_the_end_of_an_outage_is_tried_again(slept: list[float]) -> None:
    assert tried(*[FOR_ALL] * 5, FOR_THIS, {}) == {}
    assert slept == [1, 2, 4, 8, 16, 1]


def test_a_request_that_alone_fails_gives_its_place_to_others(slept: list[float]) -> None:
    assert tried(*[FOR_THIS] * 9) is FOR_THIS
    assert slept == [1, 2, 4]


def test_the_place_is_kept_when_everybody_has_to_wait_again(slept: list[float]) -> None:
    assert tried(FOR_THIS, FOR_THIS, FOR_ALL, FOR_THIS, FOR_THIS, FOR_THIS, {}) == {}
    assert slept == [1, 2, 1, 1, 2, 4]


def test_what_asks_for_more_time_gets_it(slept: list[float]) -> None:
    assert tried({**FOR_ALL, "retry_after": 30.2}, {}) == {}
    assert slept == [31]
