"""The review screen of a task that has no search yet, one, or several."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from eacps.labelstudio.client import open_client
from eacps.labelstudio.reviews import reviewed_tasks, reviews
from eacps.labelstudio.tasks.origins import META
from tests.browser.conftest import Complaints
from tests.browser.reviewed import Reviewed
from tests.browser.screen import OpenTask, cards, drag, expect_order, ranker, save, saved

NOT_RANKED = '[data-rbd-droppable-id="_"] .htx-ranker-item'


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
    (task,) = reviewed_tasks(open_client(reviewed.settings), reviewed.project)
    (review,) = reviews(task)
    return review
