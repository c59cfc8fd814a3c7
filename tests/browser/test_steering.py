"""People ask for more on the panel of a task in Label Studio, and then submit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from eacps.labelstudio.tasks.origins import META
from tests.browser.conftest import Complaints
from tests.browser.screen import OpenTask, box, cards, drag, ranker, save, saved, searched
from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, bear_tasks, connected_project, wait_until

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def backend(server: LabelStudioServer) -> Iterator[Backend]:
    with Backend(server) as running:
        yield running


@pytest.fixture(scope="module")
def project(server: LabelStudioServer, backend: Backend) -> int:
    return connected_project(server, backend)


def faults(complaints: Complaints) -> list[str]:
    """What the page complained about, but for Label Studio's policy, which only reports."""
    return [each for each in complaints.errors if "report-only" not in each]


def panel_of(page: Page, candidates: int) -> FrameLocator:
    """The panel in an open task, when it shows so many candidates."""
    panel = page.frame_locator(".review iframe, iframe[src*='/panel/']").first
    expect(panel.locator(".thumb")).to_have_count(candidates)
    return panel


def pictures(panel: FrameLocator) -> dict[str, str]:
    """The picture that the panel shows for each candidate: its name, which is its content's."""
    shown: dict[str, str] = {}
    found: list[list[str]] = panel.locator(".thumb").evaluate_all(
        "all => all.map(one => [one.dataset.id, one.querySelector('img')?.src ?? ''])"
    )
    for name, address in found:
        shown[name] = address.rpartition("/")[2]
    return shown


def export(backend: Backend, project: int, task: int) -> dict[str, Any]:
    """What `eacps export` says about the task's only annotation."""
    printed = backend.command("export", str(project)).stdout
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    (found,) = [row for row in rows if row["task"] == task]
    return dict(found)


def ask(panel: FrameLocator, action: str, candidates: int) -> None:
    """Press a button of the panel, and wait until what it asked for is shown."""
    before = panel.locator(".thumb").count()
    button = panel.locator(f'button[data-action="{action}"]')
    expect(button).to_contain_text("render")
    button.click()
    expect(panel.locator(".thumb")).to_have_count(before + candidates)
    expect(panel.locator("#steer .said")).to_contain_text("New: ")


def test_a_reviewer_asks_for_more_three_times_and_then_submits(
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    [task] = searched(server, backend, project, bear_tasks(server, project, 1))
    page = open_task(project, task)
    panel = panel_of(page, 8)
    on_screen = [cards(page).nth(at).get_attribute("data-rbd-draggable-id") for at in range(8)]
    moments = [pictures(panel)]
    panel.locator("#steer input[type=number]").fill("2")
    for number in (1, 2, 3):
        ask(panel, "more", 2)
        moments.append(pictures(panel))
        assert moments[-1].items() > moments[-2].items()
        assert len(moments[-1]) == 8 + 2 * number
    assert len(set(moments[-1].values())) == 14
    # Label Studio still shows the order with which the task was opened, and that is what is saved.
    page.get_by_text("Accept").first.click()
    save(page, "submit")
    first = export(backend, project, task)
    assert first["ranked"] == on_screen
    records = {card["id"]: card["candidate"] for card in server.data(task)["candidates"]}
    assert {name: records[name]["seed"] for name in on_screen if name} == {
        name: found["seed"] for name, found in first["candidates"].items()
    }
    assert len({str([each["seed"], each["moves"]]) for each in records.values()}) == 14
    # After a reload, the newcomers stand in a column of their own, and can be put on top.
    page = open_task(project, task)
    panel_of(page, 14)
    assert ranker(saved(server, task))["ranked"] == on_screen
    newcomers = page.locator('[data-rbd-droppable-id="_"] .htx-ranker-item')
    expect(newcomers).to_have_count(6)
    newcomer = newcomers.first.get_attribute("data-rbd-draggable-id")
    drag(page, newcomers.first, cards(page).first)
    page.get_by_text("Another is better").first.click()
    save(page, "update")
    last = export(backend, project, task)
    assert last["ranked"] == [newcomer, *on_screen]
    assert {n: last["candidates"][n] for n in first["candidates"]} == first["candidates"]
    assert last["candidates"][newcomer]["lineage"].endswith("asked for in the panel")
    assert last["problems"] == []
    predicted = server.data(task)[META]["ranked"]
    assert set(predicted) == set(moments[-1])
    assert not faults(complaints)


def test_a_preview_that_is_dragged_out_is_finished_after_submit(
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    [bear] = bear_tasks(server, project, 1, seed=9)
    chosen = {"eacps_strategy": "halving", "eacps_strategy_params": {"n": 4}}
    [task] = searched(server, backend, project, [{**bear, **chosen}])
    page = open_task(project, task)
    panel = panel_of(page, 4)
    preview = page.locator('[data-rbd-droppable-id="_"] .htx-ranker-item').first
    name = str(preview.get_attribute("data-rbd-draggable-id"))
    drag(page, preview, cards(page).first)
    page.get_by_text("Another is better").first.click()
    shown = panel.locator(f'.thumb[data-id="{name}"]')
    expect(shown).to_contain_text("not finished")
    save(page, "submit")
    # The webhook tells the backend, and the panel follows when somebody comes back to it.
    wait_until(lambda: len(server.data(task)["candidates"]) == 5, backend.log)
    page = open_task(project, task)
    panel = panel_of(page, 5)
    expect(panel.locator(f'.thumb[data-id="{name}"]')).to_contain_text("finished as")
    found = export(backend, project, task)
    assert found["ranked"][0] == found["best_by_human"] == name
    assert found["problems"] == []
    [rest] = [
        card for card in server.data(task)["candidates"] if card["candidate"]["parent"] == name
    ]
    assert found["candidates"][name]["finished_as"] == rest["id"]
    assert rest["candidate"]["state"] == "finished"
    assert not faults(complaints)


def test_a_draft_is_rendered_whole_by_one_click(
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    [bear] = bear_tasks(server, project, 1, seed=10)
    chosen = {"eacps_strategy": "draft", "eacps_strategy_params": {"n": 4, "finish": 1}}
    [task] = searched(server, backend, project, [{**bear, **chosen}])
    drafts = [
        card["candidate"]
        for card in server.data(task)["candidates"]
        if card["candidate"]["state"] == "pruned"
    ]
    assert {each["lineage"] for each in drafts} == {"global, drafted in 4 steps"}
    page = open_task(project, task)
    panel = panel_of(page, 4)
    draft = panel.locator(".thumb", has_text="not finished").first
    name = draft.get_attribute("data-id")
    draft.click()
    ask(panel, "finish", 1)
    expect(panel.locator(f'.thumb[data-id="{name}"]')).to_contain_text("finished as")
    whole = [
        card["candidate"]
        for card in server.data(task)["candidates"]
        if card["candidate"]["parent"] == name
    ]
    assert [(each["state"], each["stopped_at"]) for each in whole] == [("finished", None)]
    assert not faults(complaints)


def test_one_click_shows_more_like_this_one(
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    [task] = searched(server, backend, project, bear_tasks(server, project, 1, seed=6))
    began = time.monotonic()
    page = open_task(project, task)
    panel = panel_of(page, 8)
    best = panel.locator('.thumb[aria-selected="true"]').get_attribute("data-id")
    opened = time.monotonic()
    ask(panel, "like", 4)
    shown = time.monotonic()
    print(f"opened after {opened - began:.1f} s, shown after {shown - opened:.1f} s more, 1 click")
    data = server.data(task)
    asked = [each for each in data[META]["searches"].values() if "asked" in each]
    assert [each["asked"]["picks"] for each in asked] == [[best]]
    # The best of the new ones is what the panel shows now.
    chosen = panel.locator('.thumb[aria-selected="true"]').get_attribute("data-id")
    parents = {card["id"]: card["candidate"]["parent"] for card in data["candidates"]}
    assert parents[str(chosen)] == best
    assert not faults(complaints)


def test_a_person_can_use_the_judges_words_to_refine(
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    [task] = searched(server, backend, project, bear_tasks(server, project, 1, seed=8))
    data = server.data(task)
    # The demo's own verifier gives no reasons; cards of judges that do have this.
    first, *others = data["candidates"]
    first["candidate"]["criticism"] = f"Avoid this: {HOSTILE}"
    server.call("PATCH", f"/api/tasks/{task}", json={"data": data})
    page = open_task(project, task)
    panel = panel_of(page, 8)
    panel.locator(f'.thumb[data-id="{others[0]["id"]}"]').click()
    use = panel.get_by_role("button", name="Use the judge's words")
    expect(use).to_be_hidden()
    panel.locator(f'.thumb[data-id="{first["id"]}"]').click()
    expect(panel.locator('button[data-action="refine"]')).to_be_disabled()
    use.click()
    words = panel.get_by_label("What should be better")
    expect(words).to_have_value(f"Avoid this: {HOSTILE}")
    expect(panel.locator('button[data-action="refine"]')).to_be_enabled()
    assert not complaints.dialogs
    assert not faults(complaints)


def test_a_part_is_drawn_by_mouse_and_by_keyboard_and_texts_stay_texts(
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    open_task: OpenTask,
    complaints: Complaints,
) -> None:
    [task] = searched(server, backend, project, bear_tasks(server, project, 1, seed=7))
    page = open_task(project, task)
    panel = panel_of(page, 8)
    panel.locator("#steer summary").click()
    here = panel.locator('button[data-action="here"]')
    expect(here).to_be_disabled()
    canvas = panel.locator("canvas.drawing")
    canvas.scroll_into_view_if_needed()
    place = box(canvas)
    page.mouse.move(place["x"] + 40, place["y"] + 30)
    page.mouse.down()
    page.mouse.move(place["x"] + 140, place["y"] + 120, steps=5)
    page.mouse.up()
    expect(here).to_be_enabled()
    panel.get_by_role("button", name="Clear").click()
    expect(here).to_be_disabled()
    canvas.focus()
    for key in ("ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(here).to_be_enabled()
    here.focus()
    page.keyboard.press("Enter")
    expect(panel.locator("#steer .said")).to_contain_text("New: ")
    newest = max(server.data(task)[META]["searches"].values(), key=lambda each: each["number"])
    assert newest["mask"]["file"]
    # Too long for the demo's editor: a request that fails says so, and its words stay words.
    panel.locator("#steer textarea").first.fill(HOSTILE)
    before = server.data(task)
    panel.locator('button[data-action="refine"]').click()
    said = panel.locator("#steer .said")
    expect(said).to_contain_text("tokens longer")
    expect(said).to_contain_text(HOSTILE)
    assert server.data(task) == before
    # Whoever still has the page open after the panel was closed asks for nothing.
    jobs = backend.status()["counts"]
    backend.command("panel", "revoke", "--task", str(task))
    panel.locator('button[data-action="more"]').click()
    expect(said).to_contain_text("closed")
    assert backend.status()["counts"] == jobs
    assert not complaints.dialogs
    assert not faults(complaints)
