"""What an annotator sees and does, in a real browser on the real stack."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Complaints
from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, bear_tasks, connected_project, wait_until

LIMIT = 120.0
OpenTask = Callable[[int, int], Page]


@pytest.fixture(scope="module")
def studio(server: LabelStudioServer, backend: Backend) -> int:
    """A connected project that all tests of this module share."""
    return connected_project(server, backend)


def searched(
    server: LabelStudioServer, backend: Backend, project: int, tasks: list[dict[str, Any]]
) -> list[int]:
    """Import tasks and wait for their predictions."""
    ids = server.import_tasks(project, tasks)
    wait_until(lambda: all(server.predictions(task) for task in ids), LIMIT, backend.log)
    return ids


@pytest.fixture(scope="module")
def task(server: LabelStudioServer, backend: Backend, studio: int) -> int:
    return searched(server, backend, studio, bear_tasks(server, studio, 1, seed=7))[0]


def cards(page: Page, bucket: str = "ranked") -> Locator:
    return page.locator(f'[data-rbd-droppable-id="{bucket}"] .htx-ranker-item')


def order(page: Page, bucket: str = "ranked") -> list[str]:
    """The names of a bucket's cards, top first."""
    expect(page.locator(".htx-ranker-item")).to_have_count(8)
    names = cards(page, bucket).evaluate_all("all => all.map(card => card.dataset.rbdDraggableId)")
    return list(names)


def drag(page: Page, card: Locator, target: Locator) -> None:
    """Drag with the mouse, as slowly as the screen needs to follow."""
    start, end = card.locator("h5").bounding_box(), target.bounding_box()
    assert start
    assert end
    page.mouse.move(start["x"] + 20, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(start["x"] + 26, start["y"] + 14, steps=4)
    page.mouse.move(end["x"] + 40, end["y"] + 12, steps=25)
    page.wait_for_timeout(400)
    page.mouse.up()
    page.wait_for_timeout(600)


def save(page: Page, button: str) -> None:
    """Press `submit` or `update` and wait until Label Studio stored the annotation."""
    stored = re.compile(r"/api/(tasks/\d+/annotations|annotations/\d+)")
    with page.expect_response(
        lambda answer: (
            bool(stored.search(answer.url))
            and answer.request.method in ("POST", "PATCH", "PUT")
            and answer.ok
        )
    ):
        page.get_by_test_id(f"bottombar-{button}-button").click()


def saved(server: LabelStudioServer, task: int) -> dict[str, Any]:
    """The only annotation of a task."""
    (annotation,) = server.call("GET", f"/api/tasks/{task}/annotations/")
    found: dict[str, Any] = annotation
    return found


def ranker(holder: dict[str, Any]) -> dict[str, list[str]]:
    """The order that an annotation or a prediction holds."""
    (value,) = [r["value"]["ranker"] for r in holder["result"] if r["type"] == "ranker"]
    found: dict[str, list[str]] = value
    return found


def wait_for_pictures(page: Page, selector: str) -> int:
    """Return how many pictures there are when all have loaded."""
    page.wait_for_function(
        """selector => {
            const all = [...document.querySelectorAll(selector)];
            return all.length && all.every(image => image.complete && image.naturalWidth > 0);
        }""",
        arg=selector,
    )
    return page.locator(selector).count()


def test_the_original_and_the_best_edit_stand_side_by_side_uncropped(
    server: LabelStudioServer, studio: int, task: int, open_task: OpenTask, complaints: Complaints
) -> None:
    page = open_task(studio, task)
    assert wait_for_pictures(page, ".review .lsf-image img") == 2
    shown = page.locator(".review .lsf-image")
    boxes = [shown.nth(index).bounding_box() for index in range(2)]
    pictures = [shown.nth(index).locator("img").bounding_box() for index in range(2)]
    assert all(boxes)
    assert abs(boxes[0]["y"] - boxes[1]["y"]) < 2
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    for box, picture in zip(boxes, pictures, strict=True):
        assert picture["width"] == pytest.approx(box["width"], abs=2)
        assert picture["x"] == pytest.approx(box["x"], abs=2)
    expect(page.get_by_text("1 of 8")).to_be_visible()
    expect(page.locator(".review h3").first).to_have_text(server.task(task)["data"]["prompt"])
    assert not complaints.errors


@pytest.mark.parametrize("width", [1280, 1400])
def test_nothing_sticks_out_of_the_screen(
    studio: int, task: int, open_task: OpenTask, width: int
) -> None:
    page = open_task(studio, task)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)
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
    assert order(page) == ranker(prediction)["ranked"]
    for index in range(8):
        card = cards(page).nth(index)
        for metric in ("pf", "cons", "lpips", "pf_dir"):
            row = card.locator("tr", has=page.locator(f'td:text-is("{metric}")'))
            value, weight, adds = row.locator("td").all_inner_texts()[-3:]
            assert re.fullmatch(r"-?\d+\.\d{3}", value)
            assert re.fullmatch("\N{MULTIPLICATION SIGN}\N{MINUS SIGN}?[\\d.]+", weight)
            assert re.fullmatch("[+\N{MINUS SIGN}]\\d+\\.\\d{3}", adds)
            bar = row.locator("td").nth(1).locator("div").first
            assert bar.bounding_box()["height"] > 3
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
    before = order(page)
    drag(page, cards(page).nth(2), cards(page).first)
    wanted = [before[2], before[0], before[1], *before[3:]]
    assert order(page) == wanted
    page.get_by_text("Another is better").click()
    save(page, "submit")
    annotation = saved(server, task)
    assert ranker(annotation) == {"ranked": wanted, "rejected": []}
    assert annotation["parent_prediction"] == prediction["id"]
    choices = [r["value"]["choices"] for r in annotation["result"] if r["type"] == "choices"]
    assert choices == [["Another is better"]]

    page = open_task(studio, task)
    assert order(page) == wanted
    drag(page, cards(page).last, page.locator('[data-rbd-droppable-id="rejected"]'))
    assert order(page, "rejected") == wanted[-1:]
    save(page, "update")
    assert ranker(saved(server, task)) == {"ranked": wanted[:-1], "rejected": wanted[-1:]}
    assert ranker(server.predictions(task)[0]) == ranker(prediction)
    assert not complaints.errors


def test_labelling_one_task_after_the_other_never_shows_a_blank_screen(
    server: LabelStudioServer, backend: Backend, page: Page, complaints: Complaints
) -> None:
    project = connected_project(server, backend)
    searched(server, backend, project, bear_tasks(server, project, 2, seed=22))
    page.goto(f"{server.url}/projects/{project}/data")
    page.get_by_role("button", name="Label All Tasks").click()
    seen = set()
    for _ in range(2):
        expect(cards(page)).to_have_count(8)
        assert wait_for_pictures(page, ".htx-ranker-item img") == 8
        seen.add(page.locator(".review h3").first.inner_text())
        save(page, "submit")
        page.wait_for_timeout(1500)
    assert len(seen) == 2
    assert not complaints.errors


def test_the_list_of_tasks_shows_original_instruction_best_edit_and_score(
    server: LabelStudioServer, studio: int, task: int, page: Page
) -> None:
    page.goto(f"{server.url}/projects/{studio}/data")
    prompt = server.task(task)["data"]["prompt"]
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
    wait_until(lambda: server.task(task)["data"].get("report_md"), LIMIT, backend.log)
    page = open_task(studio, task)
    report = page.locator(".report")
    expect(report).to_contain_text("No edit was made.")
    expect(report).to_contain_text("EACPS_ROUTE_LABELS")
    expect(page.get_by_text("Edits, best first")).to_be_visible()
    assert not complaints.errors

    page.goto(f"{backend.url}/status")
    failure = page.locator("tr", has_text=f"task {task} ")
    expect(failure).to_contain_text("not available in this build")
    assert failure.locator("a").get_attribute("href") == (
        f"{server.url}/projects/{studio}/data?task={task}"
    )


def test_the_status_page_shows_what_is_done_and_who_works(backend: Backend, page: Page) -> None:
    page.goto(f"{backend.url}/status")
    done = page.locator(".count", has_text="done").locator("b")
    assert int(done.inner_text()) == backend.status()["counts"]["done"]
    for worker in backend.status()["workers"]:
        expect(page.locator("tr", has_text=worker["name"])).to_contain_text("heard from")


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
    report = page.locator(".report").bounding_box()
    assert report
    for tools in page.locator(".review .lsf-toolbar").all():
        box = tools.bounding_box()
        assert box
        assert box["y"] + box["height"] <= report["y"] + 1


def test_cards_are_readable_in_the_dark_theme(
    studio: int, task: int, open_task: OpenTask, page: Page
) -> None:
    open_task(studio, task)
    page.evaluate("document.documentElement.setAttribute('data-color-scheme', 'dark')")
    page.wait_for_timeout(300)
    text, ground = cards(page).first.evaluate(
        "card => [getComputedStyle(card.querySelector('b')).color,"
        " getComputedStyle(card).backgroundColor]"
    )
    assert abs(brightness(text) - brightness(ground)) > 120


def brightness(colour: str) -> float:
    """The mean of a CSS colour's channels."""
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3
