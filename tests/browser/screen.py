"""What tests do with the review screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, wait_until

OpenTask = Callable[[int, int], Page]


def searched(
    server: LabelStudioServer, backend: Backend, project: int, tasks: list[dict[str, Any]]
) -> list[int]:
    """Import tasks and wait for their predictions."""
    ids = server.import_tasks(project, tasks)
    wait_until(lambda: all(server.predictions(task) for task in ids), backend.log)
    return ids


def cards(page: Page, bucket: str = "ranked") -> Locator:
    return page.locator(f'[data-rbd-droppable-id="{bucket}"] .htx-ranker-item')


def order(page: Page, bucket: str = "ranked", *, among: int = 8) -> list[str]:
    """The names of a bucket's cards, top first, once all cards are there."""
    expect(page.locator(".htx-ranker-item")).to_have_count(among)
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
