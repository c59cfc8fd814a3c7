"""A request of the panel while processes are killed: nothing lost, nothing doubled."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from eacps.labelstudio.cards.contract import PANEL
from eacps.labelstudio.tasks.origins import META
from tests.label_studio_server import LabelStudioServer
from tests.patience import PATIENCE
from tests.stack import Backend, bear_tasks, connected_project, wait_until

MORE = 6


@dataclass
class Steered:
    """A task with a finished search, and its panel."""

    server: LabelStudioServer
    backend: Backend
    task: int

    @property
    def data(self) -> dict[str, Any]:
        return self.server.data(self.task)

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        return {card["id"]: card["candidate"] for card in self.data["candidates"]}

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request until it is answered, as the page does: with the same token."""
        address = f"{self.backend.url}/panel/{self.data[PANEL]}/actions"
        found: dict[str, Any] = {}

        def answered() -> bool:
            answer = requests.post(address, json=body, timeout=PATIENCE)
            answer.raise_for_status()
            found.update(answer.json())
            return True

        wait_until(answered, self.backend.log)
        return found

    def state(self, job: str) -> dict[str, Any]:
        address = f"{self.backend.url}/panel/{self.data[PANEL]}/state.json"
        jobs = requests.get(address, timeout=PATIENCE).json()["jobs"]
        return next(each for each in jobs if each["id"] == job)


@pytest.fixture(scope="module")
def backend(server: LabelStudioServer) -> Iterator[Backend]:
    """Slow searches in many small batches, so that a kill hits one in the middle."""
    with Backend(server, EACPS_STEPS="16", EACPS_BATCH_SIZE="1") as running:
        yield running


@pytest.fixture(scope="module")
def steered(server: LabelStudioServer, backend: Backend) -> Steered:
    project = connected_project(server, backend)
    [task] = server.import_tasks(project, bear_tasks(server, project, 1, seed=8))
    wait_until(lambda: server.predictions(task), backend.log)
    return Steered(server, backend, task)


def kill_one(role: str) -> Callable[[Steered], None]:
    def kill(steered: Steered) -> None:
        steered.backend.process(role).kill()

    return kill


def kill_all(steered: Steered) -> None:
    steered.backend.kill_all()
    steered.backend.start()


@pytest.mark.parametrize(
    "kill",
    [kill_one("worker"), kill_one("orchestrator"), kill_one("web"), kill_all],
    ids=["worker", "orchestrator", "web", "everything"],
)
def test_a_request_survives_a_kill_in_its_middle(
    steered: Steered, kill: Callable[[Steered], None]
) -> None:
    before, predictions = steered.records, len(steered.server.predictions(steered.task))
    body = {"token": secrets.token_hex(8), "action": "more", "candidates": MORE}
    job = steered.post(body)["job"]
    wait_until(lambda: steered.state(job)["finished"] >= 1, steered.backend.log)
    kill(steered)
    # Whoever did not see the answer asks again.
    assert steered.post(body)["job"] == job
    wait_until(lambda: steered.state(job)["state"] == "done", steered.backend.log)
    after = steered.records
    assert {name: after[name] for name in before} == before
    new = [each for name, each in after.items() if name not in before]
    assert len(new) == MORE
    assert {each["state"] for each in new} == {"finished"}
    noises = [str([each["seed"], each["moves"]]) for each in after.values()]
    assert len(set(noises)) == len(noises)
    assert set(steered.data[META]["ranked"]) == after.keys()
    found = steered.server.predictions(steered.task)
    assert len(found) == predictions
    (region,) = found[-1]["result"]
    assert region["value"]["ranker"]["ranked"] == steered.data[META]["ranked"]


def test_requests_that_end_at_the_same_time_keep_each_others_cards(steered: Steered) -> None:
    before = steered.records
    bodies = [{"token": secrets.token_hex(8), "action": "more", "candidates": 1} for _ in range(6)]
    jobs = [steered.post(body)["job"] for body in bodies]
    wait_until(
        lambda: all(steered.state(job)["state"] == "done" for job in jobs), steered.backend.log
    )
    assert len(steered.records) == len(before) + len(jobs)
    assert len(steered.server.predictions(steered.task)) == 1
