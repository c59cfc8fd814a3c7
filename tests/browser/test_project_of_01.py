"""A project that 0.1 itself filled, from this repository's history, and that people annotated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from eacps.labelstudio.cards.naming import RECORD
from eacps.labelstudio.client import open_client
from eacps.labelstudio.label_config import is_unchanged, label_config
from eacps.labelstudio.reviews import UNKNOWN, reviews
from tests.browser.conftest import Complaints, logged_in
from tests.browser.reviewed import Reviewed
from tests.browser.screen import OpenTask, expect_order
from tests.chaos.test_beside_01 import version_01  # noqa: F401 - a fixture
from tests.label_studio_server import LabelStudioServer, label_studio_command

CONFIG = """
from backend.labelstudio.label_config import label_config
print(label_config())
"""
SEARCH = """
import sys
from dataclasses import replace
from PIL import Image
from backend.artifacts import open_store
from backend.domain import PRUNED, Candidate, Failure, Noise, SearchResult, Trial, to_json
from backend.images import encode_png, thumbnail
from backend.labelstudio.client import open_client
from backend.labelstudio.hooks import LabelStudioHooks
from backend.labelstudio.label_config import label_config
from backend.labelstudio.origins import origin_of
from backend.settings import load_settings

task, seed = int(sys.argv[1]), int(sys.argv[2])
settings = load_settings()
store = open_store(settings)
hooks = LabelStudioHooks(settings)
origin = to_json(
    origin_of(open_client(settings).task(task), settings, label_config=label_config())
)
asked = hooks.prepare(origin)
asked = replace(asked, plan=replace(asked.plan, seed=seed))
found = []
for number in range(3):
    image = Image.new("RGB", (256, 192), (80 * number, 60 * seed, 200))
    found.append(Candidate(
        Trial(f"c{number + 1}", Noise(seed + number)),
        image=store.put(encode_png(image), "png"),
        thumbnail=store.put(thumbnail(image), "jpg"),
        potential=0.9 - abs(number + 1 - seed) / 10,
        nfe=12,
        failure=Failure(PRUNED, "Stopped early.") if number == 2 else None,
    ))
found.sort(key=lambda each: (each.failure is not None, -each.potential))
hooks.deliver(origin, SearchResult(asked, tuple(found), nfe=24, seconds=2.0, editor="tiny"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabelStudioServer]:
    """As Label Studio is by default: it does not check predictions, which refused those of 0.1."""
    if label_studio_command() is None:
        pytest.skip("no Label Studio on this machine: `make .venv-label-studio/.ready`")
    with LabelStudioServer(fflag_feat_utc_210_prediction_validation_15082025="false") as running:
        yield running


@pytest.fixture(scope="module")
def login(chromium: Browser, server: LabelStudioServer) -> BrowserContext:
    return logged_in(chromium, server)


@dataclass
class Version01:
    """0.1's own code, which delivers to this Label Studio."""

    sources: str
    reviewed: Reviewed

    def run(self, program: str, *arguments: object) -> str:
        settings = self.reviewed.settings
        finished = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=settings.data_dir,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": self.sources,
                "EACPS_DATA_DIR": str(settings.data_dir),
                "LABEL_STUDIO_URL": settings.label_studio_url,
                "LABEL_STUDIO_API_KEY": settings.label_studio_api_key.get_secret_value(),
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not finished.returncode, finished.stderr
        return finished.stdout

    def annotate(self, task: int) -> dict[str, Any]:
        """As the screen does: from the prediction, with the two finished cards swapped."""
        server = self.reviewed.server
        [prediction] = server.predictions(task)
        [region] = prediction["result"]
        columns = region["value"]["ranker"]
        turned = columns | {"ranked": columns["ranked"][::-1]}
        result = [region | {"value": {"ranker": turned}}]
        body = {"result": result, "parent_prediction": prediction["id"]}
        return dict(server.call("POST", f"/api/tasks/{task}/annotations/", json=body))


@pytest.fixture
def old(version_01: str, reviewed: Reviewed) -> Version01:  # noqa: F811
    made = Version01(version_01, reviewed)
    config = made.run(CONFIG)
    assert is_unchanged(config)
    reviewed.project = reviewed.server.create_project(config)
    return made


def upgrade(reviewed: Reviewed) -> None:
    """What `eacps connect` does with the label config that 0.1 installed."""
    path = f"/api/projects/{reviewed.project}/"
    reviewed.server.call("PATCH", path, json={"label_config": label_config()})


def exported(reviewed: Reviewed) -> dict[int, dict[str, Any]]:
    task = open_client(reviewed.settings).task(reviewed.task)
    return {review["annotation"]: review for review in reviews(task)}


def of_01(data: dict[str, Any]) -> dict[str, str]:
    return {card["id"]: card["html"] for card in data["candidates"] if "-" not in card["id"]}


def picture(html: str) -> str:
    found = re.search(r"src='([^']+)'", html)
    assert found
    return found[1]


def test_rankings_cards_and_predictions_of_01_stay_what_they_were(
    old: Version01, reviewed: Reviewed, open_task: OpenTask, complaints: Complaints
) -> None:
    task = reviewed.add()
    old.run(SEARCH, task, 1)
    annotation = old.annotate(task)
    before = of_01(reviewed.server.data(task))
    known = {row["id"] for row in reviewed.server.predictions(task)}
    upgrade(reviewed)
    [decided] = exported(reviewed).values()
    new = reviewed.search(2)
    assert of_01(reviewed.server.data(task)) == before
    assert not set(new) & set(before)
    assert known < {row["id"] for row in reviewed.server.predictions(task)}
    stored = reviewed.server.call("GET", f"/api/annotations/{annotation['id']}/")
    assert stored["parent_prediction"] in known
    [again] = exported(reviewed).values()
    assert again["ranked"] == decided["ranked"] == ["c2", "c1"]
    assert again["problems"] == decided["problems"] == ["There is no verdict."]
    assert set(again["candidates"]) == {"c1", "c2", "c3"}
    page = open_task(reviewed.project, task)
    expect_order(page, ["c2", "c1"])
    expect_order(page, ["c3"], "rejected")
    for name, html in before.items():
        shown = page.locator(f'[data-rbd-draggable-id="{name}"] img').get_attribute("src")
        assert str(shown).endswith(picture(html))
    expect(page.locator('[data-rbd-droppable-id="_"] .htx-ranker-item')).to_have_count(len(new))
    assert not complaints.errors


def test_rankings_whose_pictures_01_replaced_are_called_unknown_and_others_are_not(
    old: Version01, reviewed: Reviewed
) -> None:
    task = reviewed.add()
    old.run(SEARCH, task, 1)
    first = old.annotate(task)["id"]
    then = of_01(reviewed.server.data(task))
    old.run(SEARCH, task, 2)
    second = old.annotate(task)["id"]
    now = of_01(reviewed.server.data(task))
    assert set(now) == set(then)
    assert picture(now["c1"]) != picture(then["c1"])
    upgrade(reviewed)
    for _search in (3, 4):
        found = exported(reviewed)
        assert found[first]["candidates"] is None
        assert found[first]["problems"] == [UNKNOWN]
        assert UNKNOWN not in found[second]["problems"]
        assert found[second]["ranked"] == ["c1", "c2"]
        assert of_01(reviewed.server.data(task)) == now
        reviewed.search(_search)
    pictures = {
        card["id"]: card.get(RECORD, {}).get("image")
        for card in reviewed.server.data(task)["candidates"]
    }
    kept = exported(reviewed)[second]["candidates"]
    assert {name: each["image"] for name, each in kept.items() if "image" in each} == {
        name: pictures[name] for name in ("c1", "c2")
    }
    assert all(pictures[name] for name in ("c1", "c2"))


def test_a_result_of_01_without_annotations_is_shown_and_searched_no_second_time(
    old: Version01, reviewed: Reviewed, open_task: OpenTask, complaints: Complaints
) -> None:
    task = reviewed.add()
    old.run(SEARCH, task, 1)
    before = json.dumps(reviewed.server.data(task), sort_keys=True)
    upgrade(reviewed)
    page = open_task(reviewed.project, task)
    expect_order(page, ["c1", "c2"])
    expect(page.locator(".review .verdict")).to_be_visible()
    assert json.dumps(reviewed.server.data(task), sort_keys=True) == before
    assert not complaints.errors
