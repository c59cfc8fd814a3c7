"""The review screen at 1280x720: pictures and verdict at one glance, whatever the task holds."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints
from tests.browser.reviewed import Reviewed
from tests.browser.screen import OpenTask, box, cards, wait_for_pictures

LONG = "add a red scarf and green sunglasses " * 100
PICTURES = ".review .lsf-image img"


def top_of_bottom_bar(page: Page) -> float:
    return box(page.get_by_test_id("bottombar-submit-button"))["y"]


@pytest.fixture
def small(page: Page) -> Page:
    page.set_viewport_size({"width": 1280, "height": 720})
    return page


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [(512, 160), (256, 256), (200, 500)], ids=str)
@pytest.mark.parametrize("prompt", ["add a scarf", LONG], ids=["short", "long"])
def test_pictures_and_verdict_are_seen_without_scrolling(
    reviewed: Reviewed, open_task: OpenTask, complaints: Complaints,
    size: tuple[int, int], prompt: str,
) -> None:  # fmt: skip
    task = reviewed.add(size, prompt)
    reviewed.search()
    page = open_task(reviewed.project, task)
    assert wait_for_pictures(page, PICTURES) == 2
    pictures = [box(page.locator(PICTURES).nth(index)) for index in range(2)]
    ends = max(each["y"] + each["height"] for each in pictures)
    verdict = box(page.locator(".review .verdict"))
    assert (
        verdict["y"] + verdict["height"] <= box(page.get_by_test_id("bottombar-submit-button"))["y"]
    )
    # Nothing lies between pictures and verdict, not even white.
    assert 0 <= verdict["y"] - ends < 30
    for each in pictures:
        assert abs(each["width"] / each["height"] - size[0] / size[1]) < 0.05 * size[0] / size[1]
        assert max(each["width"], each["height"]) > 300
    assert not complaints.errors


@pytest.mark.usefixtures("small")
def test_every_tool_and_the_pager_can_be_clicked(
    reviewed: Reviewed, open_task: OpenTask, complaints: Complaints
) -> None:
    reviewed.search()
    page = open_task(reviewed.project, reviewed.task)
    wait_for_pictures(page, PICTURES)
    page.locator(".lsf-pagination__btn_arrow-right:visible").click()
    expect(page.locator(".lsf-pagination__page-indicator")).to_contain_text("2 of 2")
    for column in (0, 1):
        tools = page.locator(".review .column").nth(column)
        before = tools.locator(".lsf-image img").get_attribute("style")
        tools.get_by_label("zoom-in").click()
        expect(tools.locator(".lsf-image img")).not_to_have_attribute("style", str(before))
        tools.get_by_label("pan").click()
    assert not complaints.errors


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_a_task_without_candidates_says_why_and_offers_no_verdict(
    reviewed: Reviewed, open_task: OpenTask, complaints: Complaints, state: str
) -> None:
    task = reviewed.add((256, 256), LONG * 5)
    if state == "failed":
        reviewed.fail("The instruction has more than 4000 characters. Shorten it.")
    page = open_task(reviewed.project, task)
    told = box(page.locator(".review .report"))
    assert told["height"] > 15
    assert told["y"] + told["height"] <= top_of_bottom_bar(page)
    expect(page.locator(".review .verdict")).to_be_hidden()
    expect(page.locator(".review .ranking")).to_be_hidden()
    assert not complaints.errors


@pytest.mark.parametrize("width", [1280, 1400, 1920])
def test_no_card_is_wider_than_its_column(
    reviewed: Reviewed, open_task: OpenTask, page: Page, complaints: Complaints, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    best, other, _preview = reviewed.search()
    [prediction] = reviewed.server.predictions(reviewed.task)
    [region] = prediction["result"]
    region["value"]["ranker"] = {"ranked": [best], "rejected": [other]}
    path = f"/api/tasks/{reviewed.task}/annotations/"
    reviewed.server.call("POST", path, json={"result": [region]})
    open_task(reviewed.project, reviewed.task)
    expect(cards(page, "rejected")).to_have_count(1)
    too_wide = page.evaluate(
        """() => [...document.querySelectorAll('.htx-ranker-item')].filter(card => {
            const end = card.getBoundingClientRect().right;
            return [...card.querySelectorAll('*')].some(
                each => each.getBoundingClientRect().right > end + 1);
        }).length"""
    )
    assert too_wide == 0
    assert not complaints.errors
