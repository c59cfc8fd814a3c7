"""The panel in a task of a real Label Studio: what people see, press, and may not do."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect
from pydantic import SecretStr

from eacps.artifacts import open_store
from eacps.domain import PRUNED, Candidate, Failure, Metric, Noise, SearchResult, Trial, to_json
from eacps.images import encode_png, thumbnail
from eacps.jobs.client import JobClient
from eacps.labelstudio.cards.contract import PANEL
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.panel.capability import scope
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.browser.conftest import Complaints
from tests.browser.screen import OpenTask
from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, bear_tasks, connected_project, wait_until
from tests.web_server import serving

HOSTILE = "<img src=x onerror=\"alert('panel')\"><script>alert('panel')</script> ${alert(1)}"
NAVY, RED, GREEN, GREY = (0, 0, 128), (200, 0, 0), (0, 160, 0), (90, 90, 90)
SIDE = 256


@dataclass
class Shown:
    """A finished task, and the web server that its panel comes from."""

    server: LabelStudioServer
    settings: Settings
    url: str
    project: int
    task: int

    @property
    def address(self) -> str:
        """The panel on its own."""
        return f"{self.url}/panel/{self.server.data(self.task)[PANEL]}/"

    def deliver(self, colours: list[tuple[int, int, int]], seed: int = 1) -> None:
        """Deliver plain candidates, best first, and one that was stopped early."""
        hooks = LabelStudioHooks(self.settings)
        asked = origin_of(self.server.task(self.task), self.settings, label_config=label_config())
        origin = to_json(asked)
        task = hooks.prepare(origin)
        task = replace(task, plan=replace(task.plan, seed=seed))
        made = tuple(self._candidate(index, colour) for index, colour in enumerate(colours))
        hooks.deliver(origin, SearchResult(task, made, nfe=24, seconds=2.0, editor="tiny"))

    def _candidate(self, index: int, colour: tuple[int, int, int]) -> Candidate:
        store = open_store(self.settings)
        image = Image.new("RGB", (SIDE, SIDE), colour)
        stopped = Failure(PRUNED, "Stopped at step 4 of 12: others looked better.")
        parent = "c1" if index else None
        return Candidate(
            Trial(f"c{index + 1}", Noise(seed=index), parent=parent),
            image=store.put(encode_png(image), "png"),
            thumbnail=store.put(thumbnail(image), "jpg"),
            metrics=(Metric("verified", 0.9 - index / 10, 0.9, 1.0, 0.9 - index / 10),),
            potential=0.9 - index / 10,
            nfe=12,
            failure=stopped if colour == GREY else None,
            why=HOSTILE,
        )


@pytest.fixture
def shown(server: LabelStudioServer, tmp_path: Path) -> Iterator[Shown]:
    with serving(tmp_path, LABEL_STUDIO_URL=server.url, LABEL_STUDIO_API_KEY=server.token) as web:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path / "data",
            port=web.port,
            label_studio_url=server.url,
            label_studio_api_key=SecretStr(server.token),
        )
        project = server.create_project(label_config(settings))
        mask = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(mask).rectangle((64, 64, 192, 192), fill=255)
        data = {
            "image": server.upload(project, "a.png", png(Image.new("RGB", (SIDE, SIDE), NAVY))),
            "mask": server.upload(project, "mask.png", png(mask)),
            "prompt": f"add a scarf {HOSTILE}",
        }
        [task] = server.import_tasks(project, [{"data": data}])
        there = Shown(server, settings, web.url, project, task)
        there.deliver([RED, GREEN, GREY])
        yield there


def png(image: Image.Image) -> bytes:
    return encode_png(image)


def panel_in(page: Page) -> FrameLocator:
    return page.frame_locator(".review .panel iframe")


def tags(panel: FrameLocator | Page) -> Locator:
    return panel.locator(".stage .tag:visible")


def colours(node: Locator, *places: tuple[float, float]) -> list[tuple[int, int, int]]:
    """What is seen at these places of a node, as shares of its width and height."""
    image = Image.open(io.BytesIO(node.screenshot())).convert("RGB")
    return [
        image.getpixel((int(x * image.width), int(y * image.height)))  # type: ignore[misc]
        for x, y in places
    ]


def test_the_panel_is_in_the_task_and_obeys_the_keyboard(
    shown: Shown, open_task: OpenTask, complaints: Complaints
) -> None:
    page = open_task(shown.project, shown.task)
    panel = panel_in(page)
    expect(tags(panel)).to_have_text(["Original", "C190%best"])
    # Label Studio says the instruction itself.
    expect(panel.locator(".instruction")).to_have_count(0)
    expect(panel.locator(".thumb")).to_have_count(3)
    expect(page.get_by_role("link", name="Open the panel in a tab")).to_have_attribute(
        "href", shown.address
    )
    panes = panel.locator(".pane")
    assert colours(panes.nth(0), (0.5, 0.5)) == [NAVY]
    assert colours(panes.nth(1), (0.5, 0.5)) == [RED]
    panes.nth(1).click(position={"x": 20, "y": 120})
    page.keyboard.press("ArrowRight")
    expect(tags(panel)).to_have_text(["Original", "C280%place 2"])
    assert colours(panes.nth(1), (0.5, 0.5)) == [GREEN]
    page.keyboard.press("End")
    expect(tags(panel).nth(1)).to_have_text("C370%not finished")
    page.keyboard.press("?")
    expect(panel.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel.locator("dialog")).to_be_hidden()
    expect(panel.locator(".quote")).to_contain_text(HOSTILE)
    assert not complaints.errors
    assert not complaints.dialogs


@pytest.fixture
def panel(shown: Shown, page: Page) -> Page:
    """The panel in a tab of its own, at the size that it has at least to work at."""
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto(shown.address)
    expect(tags(page)).to_have_count(2)
    return page


def test_the_slider_shows_the_original_on_the_left_and_the_candidate_on_the_right(
    panel: Page,
) -> None:
    panel.keyboard.press("2")
    pane = panel.locator(".pane")
    expect(pane).to_have_count(1)
    assert colours(pane, (0.42, 0.8), (0.58, 0.8)) == [NAVY, RED]
    for _ in range(4):
        panel.keyboard.press("]")
    assert colours(pane, (0.58, 0.8)) == [NAVY]


def test_the_instruction_is_text(panel: Page, complaints: Complaints) -> None:
    expect(panel.locator(".instruction")).to_contain_text(HOSTILE)
    assert not complaints.dialogs


def test_blinking_turns_by_hand(panel: Page) -> None:
    panel.emulate_media(reduced_motion="reduce")
    panel.keyboard.press("3")
    pane = panel.locator(".pane")
    expect(tags(panel)).to_have_text(["C190%best"])
    assert colours(pane, (0.5, 0.5)) == [RED]
    panel.keyboard.press(" ")
    expect(tags(panel)).to_have_text(["Original"])
    assert colours(pane, (0.5, 0.5)) == [NAVY]


def test_the_heat_map_tells_what_changed(panel: Page) -> None:
    panel.keyboard.press("4")
    expect(panel.locator(".legend")).to_contain_text("100% of the picture changed")
    heat = panel.locator(".pane").nth(1)
    [colour] = colours(heat, (0.5, 0.5))
    assert min(colour[:2]) > 200, "the strongest heat is yellow"
    # A candidate against another one, too.
    panel.keyboard.press("a")
    expect(tags(panel).last).to_contain_text("C1 ↔ C2")


def test_zoom_and_place_are_the_same_in_both_panes(panel: Page) -> None:
    before = panel.locator(".layer > img").first.bounding_box()
    for key in ("+", "+", "Shift+ArrowRight", "Shift+ArrowDown"):
        panel.keyboard.press(key)
    styles = panel.locator(".layer > img").evaluate_all(
        "all => all.map(each => each.style.transform + each.style.width)"
    )
    assert styles[0] == styles[1]
    now = panel.locator(".layer > img").first.bounding_box()
    assert before
    assert now
    assert now["width"] > 2 * before["width"]
    panel.keyboard.press("0")
    assert panel.locator(".layer > img").first.bounding_box() == before


def test_two_candidates_are_compared_and_exchanged(panel: Page) -> None:
    panel.keyboard.press("a")
    expect(tags(panel)).to_have_text(["C190%best", "C280%place 2"])
    panel.keyboard.press("x")
    expect(tags(panel)).to_have_text(["C280%place 2", "C190%best"])
    panel.keyboard.press("o")
    expect(tags(panel)).to_have_text(["Original", "C190%best"])
    panel.locator(".thumb").nth(2).click(modifiers=["Shift"])
    expect(tags(panel)).to_have_text(["C370%not finished", "C190%best"])


def test_the_masks_outline_and_the_changed_places_are_drawn(panel: Page) -> None:
    pane = panel.locator(".pane").nth(1)
    panel.keyboard.press("m")
    expect(panel.locator(".outline")).to_have_count(2)
    box = panel.locator(".pane").nth(1).locator("img").bounding_box()
    frame = pane.bounding_box()
    assert box
    assert frame
    edge = ((box["x"] - frame["x"] + box["width"] / 4) / frame["width"], 0.5)
    [colour] = colours(pane, edge)
    assert min(colour[:2]) > 180, "the outline is yellow"
    panel.keyboard.press("c")
    expect(panel.locator(".crop canvas")).to_have_count(2)
    before, after = (panel.locator(".crop canvas").nth(index) for index in range(2))
    assert colours(before, (0.5, 0.5)) == [NAVY]
    assert colours(after, (0.5, 0.5)) == [RED]


def test_it_is_light_or_dark_as_the_browser_says_or_as_chosen(panel: Page) -> None:
    def brightness() -> int:
        rgb = panel.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", rgb)[:3]))

    panel.emulate_media(color_scheme="light")
    assert brightness() > 600
    panel.emulate_media(color_scheme="dark")
    assert brightness() < 150
    panel.keyboard.press("t")
    assert brightness() > 600
    panel.reload()
    expect(tags(panel)).to_have_count(2)
    assert brightness() > 600, "the choice is remembered"


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (900, 600)])
def test_nothing_sticks_out(panel: Page, size: tuple[int, int]) -> None:
    panel.set_viewport_size({"width": size[0], "height": size[1]})
    for key in ("1", "2", "4", "c"):
        panel.keyboard.press(key)
        wide = panel.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        strip = panel.locator(".strip").bounding_box()
        assert strip
        assert strip["y"] + strip["height"] <= size[1] + 1, "the strip is seen without scrolling"


def test_the_order_of_an_annotation_is_named_by_its_number(shown: Shown, panel: Page) -> None:
    ids = [card["id"] for card in shown.server.data(shown.task)["candidates"]]
    value = {"ranker": {"ranked": [ids[1], ids[0]], "rejected": []}}
    region = {"id": "x", "from_name": "rank", "to_name": "cands", "type": "ranker"}
    body = {"result": [region | {"value": value}]}
    made = shown.server.call("POST", f"/api/tasks/{shown.task}/annotations/", json=body)
    panel.keyboard.press("r")
    panel.locator('select[data-tool="order"]').select_option(f"Order of annotation #{made['id']}")
    expect(panel.locator(".thumb b")).to_have_text(["C2", "C1", "C3"])
    assert "reviewer" not in panel.content()


def test_it_explains_where_candidates_come_from_and_what_they_cost(panel: Page) -> None:
    text = panel.locator("#understand")
    expect(text).to_contain_text("C1 is 0.100 ahead of C2")
    expect(text).to_contain_text("How sure the judge is that what was asked for is there")
    expect(text.locator(".dot")).to_have_count(3)
    panel.get_by_role("button", name="C2 80%").click()
    expect(tags(panel)).to_have_text(["Original", "C280%place 2"])


def test_a_panel_that_is_closed_says_so_in_the_task(
    shown: Shown, panel: Page, open_task: OpenTask
) -> None:
    JobClient(shown.settings).revoke(scope(shown.server.url, task=shown.task))
    panel.keyboard.press("r")
    expect(panel.locator(".notice")).to_contain_text("This panel was closed on")
    page = open_task(shown.project, shown.task)
    expect(panel_in(page).locator("body")).to_contain_text("This panel was closed on")


def test_another_site_cannot_contain_it(shown: Shown, chromium: Browser) -> None:
    with site(f'<iframe src="{shown.address}"></iframe>') as url:
        page = chromium.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(url)

        def refused() -> bool:
            # Playwright hears of events only while it is asked something.
            page.wait_for_timeout(20)
            return "frame-ancestors" in " ".join(said)

        wait_until(refused)
        assert all("/panel/" not in frame.url for frame in page.frames)
        # Nor can it read what the panel reads.
        blocked = page.evaluate(
            "address => fetch(address + 'task.json').then(() => false, () => true)", shown.address
        )
        assert blocked
        page.close()


def test_a_task_that_is_searched_shows_its_candidates_as_they_are_made(
    server: LabelStudioServer, backend: Backend, page: Page, complaints: Complaints
) -> None:
    project = connected_project(server, backend)
    [task] = server.import_tasks(project, bear_tasks(server, project, 1, seed=31))
    wait_until(lambda: PANEL in server.data(task), backend.log)
    page.goto(f"{backend.url}/panel/{server.data(task)[PANEL]}/")
    # Without a reload: it follows the search to its end.
    expect(page.locator(".thumb")).to_have_count(8)
    expect(tags(page).nth(1)).to_contain_text("best")
    expect(page.locator(".chip.live")).to_have_count(0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4000)
    assert not asked, "nothing is asked while nothing runs"
    assert not complaints.errors
    signature = server.data(task)[PANEL].rsplit(".", 1)[1]
    assert signature not in backend.log()


@contextmanager
def site(page: str) -> Iterator[str]:
    """Another web site with one page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            """Silence."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}/"
    finally:
        made.shutdown()
        made.server_close()
