"""Verdict and ranking on the screen: what does not fit together is said before it is submitted."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints
from tests.browser.reviewed import Reviewed
from tests.browser.screen import OpenTask, cards, drag, save, saved, saving

RANKED = '[data-rbd-droppable-id="ranked"]'
REJECTED = '[data-rbd-droppable-id="rejected"]'
NOT_RANKED = '[data-rbd-droppable-id="_"] .htx-ranker-item'


def expect_notice(page: Page, text: str, pseudo: str = "::before") -> None:
    """What the notice says, or becomes to say; it stands in styles."""
    page.wait_for_function(
        """([text, pseudo]) => {
            const notice = document.querySelector('.review .notice');
            const content = getComputedStyle(notice, pseudo).content;
            return text ? content.includes(text) : content === 'none';
        }""",
        arg=[text, pseudo],
    )


@pytest.fixture
def screen(reviewed: Reviewed, open_task: OpenTask) -> Page:
    reviewed.search()
    return open_task(reviewed.project, reviewed.task)


def test_accept_best_with_another_on_top_is_noticed(screen: Page, complaints: Complaints) -> None:
    expect_notice(screen, "No verdict yet.")
    screen.get_by_text("Accept best").click()
    expect_notice(screen, "")
    drag(screen, cards(screen).nth(1), cards(screen).first)
    expect_notice(screen, "Another candidate than the")
    screen.get_by_text("Another is better").click()
    expect_notice(screen, "")
    assert not complaints.errors


def test_another_is_better_with_the_best_on_top_is_noticed(
    screen: Page, complaints: Complaints
) -> None:
    screen.get_by_text("Another is better").click()
    expect_notice(screen, "best is still on top: drag")
    drag(screen, cards(screen).nth(1), cards(screen).first)
    expect_notice(screen, "")
    assert not complaints.errors


def test_none_acceptable_with_acceptable_ones_is_noticed(
    screen: Page, complaints: Complaints
) -> None:
    screen.get_by_text("None acceptable").click()
    expect_notice(screen, "still stand under “Acceptable”")
    for _ in range(2):
        drag(screen, cards(screen).first, screen.locator(REJECTED))
    expect(cards(screen)).to_have_count(0)
    expect_notice(screen, "")
    assert not complaints.errors


def test_after_another_search_the_best_of_the_earlier_one_may_be_the_better(
    reviewed: Reviewed, open_task: OpenTask, complaints: Complaints
) -> None:
    earlier = reviewed.search(1)[0]
    reviewed.search(2)
    page = open_task(reviewed.project, reviewed.task)
    page.get_by_text("Another is better").click()
    drag(page, page.locator(f'[data-rbd-draggable-id="{earlier}"]'), cards(page).first)
    expect_notice(page, "")
    assert not complaints.errors


def test_a_ranked_preview_is_said_not_to_be_finished(
    screen: Page, reviewed: Reviewed, complaints: Complaints
) -> None:
    expect_notice(screen, "", "::after")
    preview = screen.locator(NOT_RANKED)
    expect(preview.locator("h5")).to_contain_text("not finished")
    drag(screen, preview, screen.locator(RANKED))
    expect_notice(screen, "not finished", "::after")
    assert not complaints.errors


def test_masks_are_told_apart_on_the_screen_and_saved_as_ever(
    screen: Page, reviewed: Reviewed, complaints: Complaints
) -> None:
    expect(screen.get_by_text("Edit here: brush")).to_be_visible()
    screen.get_by_text("Edit here: rectangle").click()
    picture = screen.locator(".review .lsf-image").first.bounding_box()
    assert picture
    screen.mouse.move(picture["x"] + 20, picture["y"] + 20)
    screen.mouse.down()
    screen.mouse.move(picture["x"] + 120, picture["y"] + 100, steps=10)
    screen.mouse.up()
    save(screen, "submit")
    [box] = regions(saved(reviewed.server, reviewed.task))
    assert box["value"]["rectanglelabels"] == ["Edit here"]
    assert not complaints.errors


def regions(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in annotation["result"] if each["type"] == "rectanglelabels"]


def test_after_a_comment_and_a_click_elsewhere_ctrl_enter_submits(
    reviewed: Reviewed, screen: Page, complaints: Complaints
) -> None:
    screen.get_by_text("Accept best").click()
    comment = screen.get_by_placeholder("Why? (optional)")
    comment.fill("sharp")
    screen.locator(".review .report").click()
    with saving(screen):
        screen.keyboard.press("Control+Enter")
    assert "sharp" in str(saved(reviewed.server, reviewed.task)["result"])
    assert not complaints.errors
