"""What tests do with the review screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Error, FloatRect, Locator, Page, expect

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


def box(locator: Locator) -> FloatRect:
    """Where something stands that must be seen."""
    found = locator.bounding_box()
    assert found, f"{locator} is not to be seen"
    return found


def drag(page: Page, card: Locator, target: Locator) -> None:
    """Drag with the mouse; returns when the card lies where it was dropped."""
    name = card.get_attribute("data-rbd-draggable-id")
    wait_until(lambda: _grabbed(page, card))
    end, held, title = box(target), box(card), box(card.locator("h5"))
    # A card falls into the column below its middle.
    middle = end["x"] + end["width"] / 2 - held["width"] / 2
    x, y = middle + title["x"] - held["x"], end["y"] - 2
    page.mouse.move(x + 26, y + 14, steps=25)
    # The screen follows one frame behind and forgets what it has not followed when the mouse is up.
    page.wait_for_function(
        """([name, x, y]) => {
            const card = document.querySelector(`[data-rbd-draggable-id="${name}"]`);
            const title = card.querySelector('h5').getBoundingClientRect();
            return card.style.position === 'fixed'
                && Math.abs(title.x - x) < 2 && Math.abs(title.y - y) < 2;
        }""",
        arg=[name, x, y],
    )
    page.mouse.up()
    page.wait_for_function(
        """name => document.querySelector(`[data-rbd-draggable-id="${name}"]`)
            .style.position !== 'fixed'""",
        arg=name,
    )


def _grabbed(page: Page, card: Locator) -> bool:
    """Whether the mouse holds the card, which may have moved away while pictures were loaded."""
    start = box(card.locator("h5"))
    page.mouse.move(start["x"] + 20, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(start["x"] + 26, start["y"] + 14)
    try:
        page.wait_for_function(
            "card => card.style.position === 'fixed'", arg=card.element_handle(), timeout=5000
        )
    except Error:
        page.mouse.up()
        return False
    return True


def expect_order(page: Page, names: list[str], bucket: str = "ranked") -> None:
    """A bucket's cards are these, top first, or become so."""
    found = cards(page, bucket)
    expect(found).to_have_count(len(names))
    for index, name in enumerate(names):
        expect(found.nth(index)).to_have_attribute("data-rbd-draggable-id", name)


def wait_for_stillness(page: Page) -> None:
    """Return when nothing changes its look any more, but for what does so forever."""
    page.evaluate(
        """() => Promise.allSettled(
            document.getAnimations()
                .filter(moving => moving.effect.getComputedTiming().endTime !== Infinity)
                .map(moving => moving.finished))"""
    )


def save(page: Page, button: str) -> None:
    """Press `submit` or `update` and wait until Label Studio stored the annotation."""
    with saving(page):
        page.get_by_test_id(f"bottombar-{button}-button").click()


@contextmanager
def saving(page: Page) -> Iterator[None]:
    """Wait until Label Studio stored the annotation that is submitted meanwhile."""
    stored = re.compile(r"/api/(tasks/\d+/annotations|annotations/\d+)")
    with page.expect_response(
        lambda answer: (
            bool(stored.search(answer.url))
            and answer.request.method in ("POST", "PATCH", "PUT")
            and answer.ok
        )
    ):
        yield


def saved(server: LabelStudioServer, task: int) -> dict[str, Any]:
    """The only annotation of a task."""
    (annotation,) = server.call("GET", f"/api/tasks/{task}/annotations/")
    found: dict[str, Any] = annotation
    return found


def ranker(holder: dict[str, Any]) -> dict[str, list[str]]:
    """The order that an annotation or a prediction holds, without what nobody ranked."""
    (value,) = [r["value"]["ranker"] for r in holder["result"] if r["type"] == "ranker"]
    return {bucket: names for bucket, names in value.items() if bucket != "_"}


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
