"""The review screen of a task that has no search yet, one, or several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from eacps.artifacts import open_store
from eacps.domain import PRUNED, Candidate, Failure, Noise, SearchResult, Trial, to_json
from eacps.images import encode_png, thumbnail
from eacps.labelstudio.client import open_client
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.reviews import export
from eacps.labelstudio.tasks.origins import META, origin_of
from eacps.settings import Settings
from tests.browser.conftest import Complaints
from tests.browser.screen import OpenTask, cards, drag, expect_order, ranker, save, saved
from tests.label_studio_server import LabelStudioServer

NOT_RANKED = '[data-rbd-droppable-id="_"] .htx-ranker-item'


@dataclass
class Reviewed:
    """A task in a project with the review screen, to which results are delivered."""

    server: LabelStudioServer
    settings: Settings
    project: int
    task: int

    def search(self, seed: int) -> list[str]:
        """Deliver two finished candidates and a preview; returns their cards, best first."""
        asked = origin_of(self.server.task(self.task), self.settings, label_config=label_config())
        hooks, origin = LabelStudioHooks(self.settings), to_json(asked)
        task = hooks.prepare(origin)
        ended = tuple(self._candidate(seed, number) for number in range(3))
        task = replace(task, plan=replace(task.plan, seed=seed))
        hooks.deliver(origin, SearchResult(task, ended, nfe=24, seconds=2.0, editor="tiny"))
        data = self.server.data(self.task)
        return [card["id"] for card in data["candidates"]][:3]

    def _candidate(self, seed: int, number: int) -> Candidate:
        store = open_store(self.settings)
        image = Image.new("RGB", (256, 192), (80 * number, 60 * seed, 90))
        pruned = Failure(PRUNED, "Stopped at step 4 of 12: others looked better.")
        return Candidate(
            Trial(f"c{number + 1}", Noise(seed + number)),
            image=store.put(encode_png(image), "png"),
            thumbnail=store.put(thumbnail(image), "jpg"),
            potential=0.9 - number / 10,
            nfe=12,
            failure=pruned if number == 2 else None,
        )


@pytest.fixture
def reviewed(server: LabelStudioServer, tmp_path: Path) -> Reviewed:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        label_studio_url=server.url,
        label_studio_api_key=SecretStr(server.token),
    )
    project = server.create_project(label_config())
    content = encode_png(Image.new("RGB", (256, 192), "navy"))
    image = server.upload(project, "a.png", content)
    [task] = server.import_tasks(project, [{"data": {"image": image, "prompt": "add a scarf"}}])
    return Reviewed(server, settings, project, task)


def expect_not_ranked(page: Page, names: list[str]) -> None:
    found = page.locator(NOT_RANKED)
    expect(found).to_have_count(len(names))
    shown = {found.nth(index).get_attribute("data-rbd-draggable-id") for index in range(len(names))}
    assert shown == set(names)


def test_a_task_that_was_submitted_too_early_shows_the_candidates_that_come_later(
    reviewed: Reviewed, open_task: OpenTask, complaints: Complaints
) -> None:
    page = open_task(reviewed.project, reviewed.task)
    told = "getComputedStyle(document.querySelector('.review .report'), '::before').content"
    assert "waits for its search" in page.evaluate(told)
    save(page, "submit")
    names = reviewed.search(1)
    page = open_task(reviewed.project, reviewed.task)
    assert page.evaluate(told) == "none"
    expect_not_ranked(page, names)
    drag(page, page.locator(NOT_RANKED).first, page.locator('[data-rbd-droppable-id="ranked"]'))
    save(page, "update")
    assert len(ranker(saved(reviewed.server, reviewed.task))["ranked"]) == 1
    assert not complaints.errors


def test_what_is_on_the_screen_is_what_is_exported_after_every_search(
    reviewed: Reviewed, open_task: OpenTask, complaints: Complaints
) -> None:
    searches = [reviewed.search(1)]
    page = open_task(reviewed.project, reviewed.task)
    expect_order(page, searches[0][:2])
    expect_not_ranked(page, searches[0][2:])
    drag(page, cards(page).nth(1), cards(page).first)
    order = searches[0][1::-1]
    expect_order(page, order)
    page.get_by_text("Another is better").click()
    save(page, "submit")
    known = exported(reviewed)
    assert (known["ranked"], known["rejected"], known["problems"]) == (order, [], [])
    for seed in (2, 3):
        searches.append(reviewed.search(seed))
        page = open_task(reviewed.project, reviewed.task)
        expect_order(page, order)
        newcomers = [name for names in searches[1:] for name in names]
        expect_not_ranked(page, [*searches[0][2:], *newcomers])
        again = exported(reviewed)
        assert {**again, "updated_at": ""} == {**known, "updated_at": ""}
    assert reviewed.server.data(reviewed.task)[META]["ranked"] == searches[2][:2]
    # A newcomer is put on top; then it is ranked, and all others stay what they are.
    newcomer = page.locator(f'[data-rbd-draggable-id="{searches[2][0]}"]')
    drag(page, newcomer, cards(page).first)
    expect_order(page, [searches[2][0], *order])
    save(page, "update")
    last = exported(reviewed)
    assert last["ranked"] == [searches[2][0], *order]
    assert {name: last["candidates"][name] for name in order} == known["candidates"]
    assert not complaints.errors


def exported(reviewed: Reviewed) -> dict[str, Any]:
    (review,) = export(open_client(reviewed.settings), reviewed.project)
    return review
