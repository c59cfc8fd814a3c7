"""The Data Manager's tabs, and labelling from them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from eacps.labelstudio.review_tab import tabs_of
from tests.browser.conftest import Complaints
from tests.browser.reviewed import Reviewed
from tests.browser.screen import box, save, wait_for_pictures


@pytest.fixture
def tabs(reviewed: Reviewed) -> dict[str, int]:
    """The numbers of the tabs, as `eacps connect` adds them before there are any results."""
    return {
        tab["title"]: reviewed.server.call(
            "POST", "/api/dm/views/", json={"project": reviewed.project, "data": tab}
        )["id"]
        for tab in tabs_of(reviewed.settings)
    }


def listed(reviewed: Reviewed, tab: int) -> set[int]:
    found = reviewed.server.call("GET", f"/api/tasks?view={tab}&project={reviewed.project}")
    return {task["id"] for task in found["tasks"]}


def open_tab(page: Page, reviewed: Reviewed, tab: int) -> Page:
    page.goto(f"{reviewed.server.url}/projects/{reviewed.project}/data?tab={tab}")
    page.get_by_text("Label All Tasks").wait_for()
    page.wait_for_load_state("networkidle")
    return page


def test_each_tab_lists_its_tasks(
    reviewed: Reviewed, tabs: dict[str, int], page: Page, complaints: Complaints
) -> None:
    waiting = reviewed.task
    # Nothing has ended: no task has the field that is filtered by.
    assert listed(reviewed, tabs["Not finished"]) == {waiting}
    assert listed(reviewed, tabs["Failed"]) == set()
    for tab in tabs.values():
        open_tab(page, reviewed, tab)
    ready = reviewed.add()
    reviewed.search()
    failed = reviewed.add()
    reviewed.fail()
    assert listed(reviewed, tabs["Review"]) == {waiting, ready, failed}
    assert listed(reviewed, tabs["Ready"]) == {ready}
    assert listed(reviewed, tabs["Failed"]) == {failed}
    assert listed(reviewed, tabs["Not finished"]) == {waiting}
    for title, tasks in (("Ready", 1), ("Failed", 1), ("Not finished", 1), ("Review", 3)):
        open_tab(page, reviewed, tabs[title])
        expect(page.get_by_text(f"Tasks: {tasks} / 3")).to_be_visible()
    assert not complaints.errors


def test_labelling_as_displayed_in_ready_hands_out_no_task_that_waits_or_failed(
    reviewed: Reviewed, tabs: dict[str, int], page: Page, complaints: Complaints
) -> None:
    ready = reviewed.add(prompt="the one that is ready")
    reviewed.search()
    reviewed.add(prompt="a failed one")
    reviewed.fail()
    open_tab(page, reviewed, tabs["Ready"])
    page.get_by_label("Toggle open").click()
    page.get_by_text("Label Tasks As Displayed").click()
    expect(page.locator(".review h3").first).to_have_text("the one that is ready")
    page.get_by_text("Accept best").click()
    save(page, "submit")
    expect(page.get_by_text("All tasks in the queue have been completed")).to_be_visible()
    assert reviewed.server.call("GET", f"/api/tasks/{ready}/annotations/")
    assert not complaints.errors


def test_the_best_edit_is_on_a_screen_of_1280_pixels(
    reviewed: Reviewed, tabs: dict[str, int], page: Page, complaints: Complaints
) -> None:
    image = reviewed.server.data(reviewed.task)["image"]
    data = {"image": image, "prompt": "x", "route": "Edit", "reference": image}
    [reviewed.task] = reviewed.server.import_tasks(reviewed.project, [{"data": data}])
    reviewed.search()
    best = reviewed.server.data(reviewed.task)["gallery"][0]
    page.set_viewport_size({"width": 1280, "height": 720})
    open_tab(page, reviewed, tabs["Ready"])
    shown = f'img[src*="{best.rpartition("/")[2]}"]'
    wait_for_pictures(page, shown)
    found = box(page.locator(shown).first)
    assert found["x"] + found["width"] <= 1280
    assert not complaints.errors
