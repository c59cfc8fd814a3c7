"""What an annotator sees and does, in a real browser on the real stack."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

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
    wait_for_stillness,
)
from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, bear_tasks, connected_project, wait_until


@pytest.fixture(scope="module")
def studio(server: LabelStudioServer, backend: Backend) -> int:
    """A connected project that all tests of this module share."""
    return connected_project(server, backend)


@pytest.fixture(scope="module")
def task(server: LabelStudioServer, backend: Backend, studio: int) -> int:
    return searched(server, backend, studio, bear_tasks(server, studio, 1, seed=7))[0]


def test_the_original_and_the_best_edit_stand_side_by_side_uncropped(
    server: LabelStudioServer, studio: int, task: int, open_task: OpenTask, complaints: Complaints
) -> None:
    page = open_task(studio, task)
    assert wait_for_pictures(page, ".review .lsf-image img") == 2
    shown = page.locator(".review .lsf-image")
    left, right = (box(shown.nth(index)) for index in range(2))
    assert abs(left["y"] - right["y"]) < 2
    assert left["x"] + left["width"] < right["x"]
    for index, frame in enumerate((left, right)):
        picture = box(shown.nth(index).locator("img"))
        assert picture["width"] == pytest.approx(frame["width"], abs=2)
        assert picture["x"] == pytest.approx(frame["x"], abs=2)
    expect(page.get_by_text("1 of 8")).to_be_visible()
    expect(page.locator(".review h3").first).to_have_text(server.data(task)["prompt"])
    assert not complaints.errors


@pytest.mark.parametrize("width", [1280, 1400])
def test_nothing_sticks_out_of_the_screen(
    studio: int, task: int, page: Page, open_task: OpenTask, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_task(studio, task)
    assert wait_for_pictures(page, ".review .card img") == 8
    too_wide = page.evaluate(
        """() => {
            const right = document.querySelector('.review').getBoundingClientRect().right + 1;
            return [...document.querySelectorAll('.review .card *, .review .report *')]
                .filter(part => part.getBoundingClientRect().right > right)
                .map(part => part.outerHTML.slice(0, 80));
        }"""
    )
    assert too_wide == []


def test_the_report_says_how_the_edit_was_found(
    studio: int, task: int, open_task: OpenTask
) -> None:
    report = open_task(studio, task).locator(".report")
    expect(report).to_contain_text("Route Edit (default")
    for fact in (
        r"strategy eacps",
        r"8 candidates",
        r"192 NFE",
        r"[\d.,]+ s",
        r"editor \S+",
        r"best C\d [\d.]+, [\d.]+ ahead of C\d",
    ):
        expect(report).to_contain_text(re.compile(fact))
    expect(report.locator("table")).to_be_hidden()
    report.locator("summary").click()
    expect(report.locator("table")).to_be_visible()
    assert report.locator("table tr").count() == 9


def test_every_card_shows_its_picture_metrics_and_origin(
    server: LabelStudioServer, studio: int, task: int, open_task: OpenTask
) -> None:
    page = open_task(studio, task)
    expect(cards(page)).to_have_count(8)
    assert wait_for_pictures(page, ".htx-ranker-item img") == 8
    prediction = server.predictions(task)[0]
    expect_order(page, ranker(prediction)["ranked"])
    for index in range(8):
        card = cards(page).nth(index)
        for metric in ("pf", "cons", "lpips", "pf_dir"):
            row = card.locator("tr", has=page.locator(f'td:text-is("{metric}")'))
            value, weight, adds = row.locator("td").all_inner_texts()[-3:]
            assert re.fullmatch(r"-?\d+\.\d{3}", value)
            if metric == "pf_dir":  # not part of the potential: no weight and no contribution
                assert (weight, adds) == ("", "")
                continue
            assert re.fullmatch("\N{MULTIPLICATION SIGN}\N{MINUS SIGN}?[\\d.]+", weight)
            assert re.fullmatch("[+\N{MINUS SIGN}]\\d+\\.\\d{3}", adds)
            bar = row.locator("td").nth(1).locator("div").first
            assert box(bar)["height"] > 3
        expect(card).to_contain_text(re.compile(r"(global|child of c\d at angle [\d.]+)"))
        expect(card).to_contain_text(re.compile(r"seed \d+ · 24 NFE"))
    expect(cards(page).first).to_contain_text("best")
    expect(cards(page).nth(1)).to_contain_text("rank 2")


def test_a_new_order_is_submitted_and_a_rejection_is_saved_later(
    server: LabelStudioServer,
    backend: Backend,
    studio: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    (task,) = searched(server, backend, studio, bear_tasks(server, studio, 1, seed=21))
    (prediction,) = server.predictions(task)
    page = open_task(studio, task)
    before = ranker(prediction)["ranked"]
    assert len(before) == 8
    expect_order(page, before)
    drag(page, cards(page).nth(2), cards(page).first)
    wanted = [before[2], before[0], before[1], *before[3:]]
    expect_order(page, wanted)
    page.get_by_text("Another is better").click()
    save(page, "submit")
    annotation = saved(server, task)
    assert ranker(annotation) == {"ranked": wanted, "rejected": []}
    assert annotation["parent_prediction"] == prediction["id"]
    choices = [r["value"]["choices"] for r in annotation["result"] if r["type"] == "choices"]
    assert choices == [["Another is better"]]

    page = open_task(studio, task)
    expect_order(page, wanted)
    drag(page, cards(page).nth(1), page.locator('[data-rbd-droppable-id="rejected"]'))
    expect_order(page, wanted[1:2], "rejected")
    save(page, "update")
    left = [wanted[0], *wanted[2:]]
    assert ranker(saved(server, task)) == {"ranked": left, "rejected": wanted[1:2]}
    assert ranker(server.predictions(task)[0]) == ranker(prediction)
    assert not complaints.errors


def test_labelling_one_task_after_the_other_never_shows_a_blank_screen(
    server: LabelStudioServer, backend: Backend, page: Page, complaints: Complaints
) -> None:
    project = connected_project(server, backend)
    tasks = searched(server, backend, project, bear_tasks(server, project, 2, seed=22))
    prompts = {server.data(task)["prompt"] for task in tasks}
    page.goto(f"{server.url}/projects/{project}/data")
    page.get_by_role("button", name="Label All Tasks").click()
    shown = page.locator(".review h3").first
    for _ in tasks:
        expect(cards(page)).to_have_count(8)
        assert wait_for_pictures(page, ".htx-ranker-item img") == 8
        prompts.remove(shown.inner_text())
        save(page, "submit")
        for prompt in prompts:
            expect(shown).to_have_text(prompt)
    expect(page.get_by_text("All tasks in the queue have been completed")).to_be_visible()
    assert not complaints.errors


def test_the_list_of_tasks_shows_original_instruction_best_edit_and_score(
    server: LabelStudioServer, studio: int, task: int, page: Page
) -> None:
    page.goto(f"{server.url}/projects/{studio}/data")
    prompt = server.data(task)["prompt"]
    row = page.locator(".lsf-table__row-wrapper", has_text=prompt).first
    expect(row).to_contain_text(f"{server.predictions(task)[0]['score']:.3f}"[:4])
    expect(row.locator("img")).to_have_count(2)
    wait_for_pictures(page, ".lsf-table__row-wrapper img")
    expect(page.locator("body")).not_to_contain_text("<div class='card'")


def test_a_failed_task_says_why_and_what_to_do(
    server: LabelStudioServer,
    backend: Backend,
    studio: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    bear = bear_tasks(server, studio, 1, seed=23)[0]
    (task,) = server.import_tasks(studio, [{**bear, "task": "Face swap"}])
    wait_until(lambda: server.data(task).get("report_md"), backend.log)
    page = open_task(studio, task)
    report = page.locator(".report")
    expect(report).to_contain_text("No edit was made.")
    expect(report).to_contain_text("Put the URL of a picture")
    expect(page.get_by_role("heading", name="Edits")).to_be_visible()
    assert not complaints.errors

    page.goto(f"{backend.url}/status")
    failure = page.locator("tr", has_text=f"task {task} ")
    expect(failure).to_contain_text("contains no picture of a character")
    assert failure.get_by_role("link", name=f"task {task}").get_attribute("href") == (
        f"{server.url}/projects/{studio}/data?task={task}"
    )


def test_the_status_page_shows_what_is_done_and_who_works(backend: Backend, page: Page) -> None:
    page.goto(f"{backend.url}/status")
    done = page.locator(".count", has_text="done").locator("b")
    assert int(done.inner_text()) == backend.status()["counts"]["done"]
    workers = backend.status()["workers"]
    assert len(workers) == 2
    for worker in workers:
        expect(page.locator("tr", has_text=worker["name"])).to_contain_text("last heartbeat")


def test_what_a_task_says_is_shown_as_text_and_never_run(
    server: LabelStudioServer,
    backend: Backend,
    studio: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    attack = (
        "<script>alert(1)</script><img src=x onerror=alert(2)> **bold** "
        "[link](javascript:alert(3)) </div></details><svg onload=alert(4)>" + "endless" * 60
    )
    bear = bear_tasks(server, studio, 1, seed=24)[0]
    hostile = {**bear, "prompt": attack, "route": "<b onmouseover=alert(5)>**swap**</b>"}
    (task,) = searched(server, backend, studio, [hostile])
    page = open_task(studio, task)
    expect(cards(page)).to_have_count(8)
    assert page.locator(".review h3").first.inner_text() == attack
    expect(page.locator(".report")).to_contain_text("<b onmouseover=alert(5)>**swap**</b>")
    page.locator(".report").hover()
    assert page.locator(".review [onerror], .review [onload], .review [onmouseover]").count() == 0
    header, screen = page.locator(".review h3").first, page.locator(".review")
    assert header.evaluate("header => header.scrollWidth <= header.clientWidth + 1")
    assert screen.evaluate("screen => screen.scrollWidth <= screen.clientWidth + 1")
    assert not complaints.dialogs
    assert not complaints.errors


@pytest.mark.parametrize("size", [(2000, 250), (250, 1000)])
def test_very_wide_and_very_tall_pictures_keep_the_screen_usable(
    server: LabelStudioServer,
    backend: Backend,
    studio: int,
    open_task: OpenTask,
    size: tuple[int, int],
) -> None:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, "PNG")
    path = server.upload(studio, f"{size[0]}.png", buffer.getvalue())
    (task,) = searched(server, backend, studio, [{"image": path, "prompt": "add a hat"}])
    page = open_task(studio, task)
    wait_for_pictures(page, ".review .lsf-image img")
    report = box(page.locator(".report"))
    toolbars = page.locator(".review .lsf-toolbar")
    expect(toolbars).to_have_count(2)
    for index in range(2):
        tools = box(toolbars.nth(index))
        assert tools["y"] + tools["height"] <= report["y"] + 1


def test_cards_are_readable_in_the_dark_theme(
    studio: int, task: int, open_task: OpenTask, page: Page
) -> None:
    open_task(studio, task)
    page.evaluate("document.documentElement.setAttribute('data-color-scheme', 'dark')")
    wait_for_stillness(page)
    text, ground = cards(page).first.evaluate(
        "card => [getComputedStyle(card.querySelector('b')).color,"
        " getComputedStyle(card).backgroundColor]"
    )
    assert abs(brightness(text) - brightness(ground)) > 120


def brightness(colour: str) -> float:
    """The mean of a CSS colour's channels."""
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3
