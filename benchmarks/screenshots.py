"""Takes the README's screenshots of the demo."""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.progress import Progress, TextColumn

from eacps.demo.faces import FaceTask, picture_in
from eacps.demo.label_studio import PASSWORD, USERNAME
from eacps.demo.show import Demo
from eacps.demo.tasks import demo_tasks

COUNT = 12
MORE_SEED = 8
LIMIT_SECONDS = 120
LIMIT_BYTES = 400_000
MARGIN = 14
BAR = 52
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
console = Console()


def main() -> None:
    """Start the demo in a temporary folder, take the screenshots, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument(
        "--label-studio", type=Path, default=Path(".venv-label-studio/bin/label-studio")
    )
    arguments = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"No browser: none of {', '.join(BROWSERS)} is installed.")
    if not arguments.label_studio.exists():
        sys.exit(f"There is no Label Studio at {arguments.label_studio}; `make demo` installs it.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with running_demo(arguments.label_studio.absolute()) as (demo, project):
        take_pictures(demo, project, browser, arguments.out)


@contextmanager
def running_demo(program: Path) -> Iterator[tuple[Demo, int]]:
    """The demo with all predictions, and its project."""
    with tempfile.TemporaryDirectory(prefix="eacps-pictures-") as folder:
        demo = Demo(program, Path(folder), COUNT, console, swaps=free_swaps)
        try:
            demo.label_studio.wait(demo.check_alive)
            demo.start_backend()
            demo.wait_for_backend()
            project = demo.project()
            demo.connect(project)
            total = demo.import_tasks(project)
            column = TextColumn("{task.completed:.0f} of {task.total:.0f} tasks searched")
            with Progress(column, console=console) as progress:
                demo.watch(project, total, progress)
            yield demo, project
        finally:
            demo.stop()


def free_swaps() -> list[FaceTask]:
    """A face swap between two portraits in the public domain, because pictures are published."""
    astronaut = picture_in("skimage", "data/astronaut.png").crop((60, 0, 390, 330))
    admiral = picture_in("matplotlib", "mpl-data/sample_data/grace_hopper.jpg").crop(
        (120, 40, 420, 400)
    )
    instruction = "Swap the face for the character's"
    return [FaceTask("face-free", astronaut, instruction, (admiral,))]


def take_pictures(demo: Demo, project: int, browser: str, out: Path) -> None:
    """Take a screenshot of each screen."""
    site = f"{demo.label_studio.url}/projects/{project}/data"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        log_in(page, demo.label_studio.url)
        page.goto(site)
        page.wait_for_selector(".lsf-table__row-wrapper img")
        keep(page, out / "manager.png", (1400, 780))
        first, *_, swap = tasks(demo, project)
        open_task(page, f"{site}?task={first}")
        keep(page, out / "review.png", (1400, 1100))
        take_panels(chromium, page.locator("iframe").first.get_attribute("src") or "", out)
        open_task(page, f"{site}?task={swap}")
        keep(page, out / "faces.png", (1400, 1132), only=".review")
        import_more(demo, project)
        wait_for_work(page, demo)
        keep(page, out / "status.png", (1100, 620))
        chromium.close()


def take_panels(chromium: Browser, address: str, out: Path) -> None:
    """Take a screenshot of a task's panel in a small and light, and in a large and dark window."""
    light = chromium.new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
    light.goto(address)
    light.wait_for_selector(".thumb")
    keep(light, out / "panel.png", (1280, 720))
    dark = chromium.new_page(viewport={"width": 1920, "height": 1080}, color_scheme="dark")
    dark.goto(address)
    dark.wait_for_selector(".thumb")
    dark.keyboard.press("4")
    keep(dark, out / "panel-dark.png", (1920, 1080))


def log_in(page: Page, url: str) -> None:
    """Log in through the form."""
    page.goto(f"{url}/user/login/")
    page.fill("input[name=email]", USERNAME)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda address: "/login" not in address)


def tasks(demo: Demo, project: int) -> list[int]:
    """The numbers of all tasks, in the order of their import."""
    answer = demo.label_studio.api("GET", f"/api/tasks?project={project}&page_size=500").json()
    return sorted(int(task["id"]) for task in answer["tasks"])


def open_task(page: Page, address: str) -> None:
    """Open a task's review screen."""
    page.goto(address)
    page.wait_for_selector("button[name=submit]")
    page.wait_for_selector(".htx-ranker-item img")


def import_more(demo: Demo, project: int) -> None:
    """Import more tasks for the status page, one of which cannot succeed."""
    more = [{"image": "http://127.0.0.1/private.png", "prompt": "add a hat"}]
    for number, bear in enumerate(demo_tasks(COUNT, MORE_SEED)):
        content = io.BytesIO()
        bear.image.save(content, "PNG")
        image = demo.label_studio.upload(project, f"more-{number}.png", content.getvalue())
        more.append({"image": image, "prompt": bear.instruction})
    demo.label_studio.api("POST", f"/api/projects/{project}/import", json=more)


def wait_for_work(page: Page, demo: Demo) -> None:
    """Wait until the status page shows a running and a failed job."""
    address = f"http://localhost:{demo.backend_port}/status"
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        status = requests.get(f"{address}.json", timeout=10).json()
        busy = [job for job in status["running"] if 0 < job["finished"] < job["expected"]]
        if busy and status["failures"]:
            page.goto(address)
            return
        time.sleep(0.1)
    raise RuntimeError("the status page never showed work and a failure at once")


def keep(page: Page, path: Path, size: tuple[int, int], *, only: str = "") -> None:
    """Save a screenshot of the page, or of the visible part of an element, as a small file."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    if path.name != "status.png":
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if only:
        picture = picture.crop(around(page, only, picture.height))
    picture.save(path, optimize=True)
    if path.stat().st_size > LIMIT_BYTES:
        picture.quantize(256, kmeans=4, dither=Image.Dither.NONE).save(path, optimize=True)
    console.print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def around(page: Page, selector: str, height: int) -> tuple[int, int, int, int]:
    """The box of an element with a margin, cut off at the bar with buttons."""
    box = page.locator(selector).bounding_box()
    assert box
    left, top, right = box["x"], box["y"], box["x"] + box["width"]
    return (int(left - MARGIN), int(top - MARGIN), int(right + MARGIN), height - BAR)


if __name__ == "__main__":
    main()
