"""A face swap's review screen, in a real browser on the real stack."""

from __future__ import annotations

import re
from functools import partial

import pytest
from playwright.sync_api import Page, expect

from eacps.demo.faces import face_tasks
from tests.browser.conftest import Complaints
from tests.browser.screen import (
    OpenTask,
    box,
    cards,
    drag,
    expect_order,
    ranker,
    save,
    saved,
    searched,
    wait_for_pictures,
)
from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, connected_project, uploaded

CARDS = 4


@pytest.fixture(scope="module")
def studio(server: LabelStudioServer, backend: Backend, face_models: None) -> int:
    """A connected project that all tests of this module share."""
    return connected_project(server, backend)


@pytest.fixture(scope="module")
def swaps(server: LabelStudioServer, backend: Backend, studio: int) -> tuple[int, int]:
    """A scene with one face, and one with six of which two are exchanged."""
    upload = partial(uploaded, server, studio)
    one, two = searched(server, backend, studio, [task.data(upload) for task in face_tasks()])
    return one, two


@pytest.mark.parametrize("which", [0, 1])
def test_original_swaps_and_characters_are_all_seen(
    studio: int, swaps: tuple[int, int], open_task: OpenTask, complaints: Complaints, which: int
) -> None:
    page = open_task(studio, swaps[which])
    assert wait_for_pictures(page, ".review .lsf-image img") == 2
    expect(page.get_by_text(f"1 of {CARDS}")).to_be_visible()
    original, best = (page.locator(".review .lsf-image img").nth(index) for index in range(2))
    size = "image => [image.naturalWidth, image.naturalHeight]"
    assert original.evaluate(size) == best.evaluate(size)
    assert original.get_attribute("src") != best.get_attribute("src")
    assert wait_for_pictures(page, ".report img") == 1 + which
    expect(page.locator(".report figcaption").first).to_have_text(re.compile("^Character"))
    assert wait_for_pictures(page, ".htx-ranker-item img") == CARDS
    assert not complaints.errors


def test_the_report_names_route_and_engine(
    studio: int, swaps: tuple[int, int], open_task: OpenTask
) -> None:
    report = open_task(studio, swaps[0]).locator(".report")
    expect(report).to_contain_text("Route Face swap (label “Face swap” in the task's field")
    for fact in (rf"{CARDS} candidates", "no diffusion", r"[\d.]+ s", r"engine basic", r"best C\d"):
        expect(report).to_contain_text(re.compile(fact))
    assert "NFE" not in report.inner_text()


def test_every_card_shows_identity_before_and_after_and_whose_face_was_replaced(
    studio: int, swaps: tuple[int, int], open_task: OpenTask
) -> None:
    page = open_task(studio, swaps[0])
    expect(cards(page)).to_have_count(CARDS)
    for card in cards(page).all():
        after, before = (
            box(card.locator("tr", has=page.locator(f'td:text-is("{name}")')).locator("td div div"))
            for name in ("identity", "identity before")
        )
        assert after["width"] > before["width"]
        expect(card).to_contain_text(re.compile(r"the only face; blend \d+%"))
        expect(card).not_to_contain_text("seed")
    two = open_task(studio, swaps[1])
    expect(cards(two).first).to_contain_text(
        "character 1: masked face 1 of 2 from the left, "
        "character 2: masked face 2 of 2 from the left"
    )


@pytest.mark.parametrize("width", [1280, 1400])
def test_nothing_sticks_out_of_the_screen(
    studio: int, swaps: tuple[int, int], page: Page, open_task: OpenTask, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_task(studio, swaps[1])
    assert wait_for_pictures(page, ".htx-ranker-item img") == CARDS
    screen = page.locator(".review")
    assert screen.evaluate("screen => screen.scrollWidth <= screen.clientWidth + 1")


def test_another_swap_is_dragged_to_the_top_and_submitted(
    server: LabelStudioServer,
    studio: int,
    swaps: tuple[int, int],
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    page = open_task(studio, swaps[0])
    before = ranker(server.predictions(swaps[0])[0])["ranked"]
    assert len(before) == CARDS
    expect_order(page, before)
    drag(page, cards(page).nth(1), cards(page).first)
    wanted = [before[1], before[0], *before[2:]]
    expect_order(page, wanted)
    save(page, "submit")
    assert ranker(saved(server, swaps[0])) == {"ranked": wanted, "rejected": []}
    assert not complaints.errors


@pytest.mark.parametrize("which", [0, 1])
def test_the_panel_shows_each_face_before_and_after_beside_its_character(
    studio: int, swaps: tuple[int, int], open_task: OpenTask, complaints: Complaints, which: int
) -> None:
    page = open_task(studio, swaps[which])
    panel = page.frame_locator("iframe").first
    panel.get_by_role("button", name="Faces").click()
    captions = panel.locator(".crop figure")
    expect(captions).to_have_text(["before", "after", "character"] * (1 + which))
    expect(panel.get_by_role("button", name="More like")).to_be_disabled()
    expect(panel.locator("#steer")).to_contain_text("no noise to vary")
    assert not complaints.errors
