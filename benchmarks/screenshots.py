"""The README's pictures, taken from the demo just as `make demo` shows it."""

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
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.progress import Progress, TextColumn

from demo.label_studio import PASSWORD, USERNAME
from demo.show import Demo
from demo.tasks import demo_tasks

COUNT = 12
MORE_SEED = 8
LIMIT_SECONDS = 120
LIMIT_BYTES = 400_000
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
    """Bring the demo up in a folder of its own, take the pictures, take it down."""
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
    """The demo with all its predictions, and its project."""
    with tempfile.TemporaryDirectory(prefix="eacps-pictures-") as folder:
        demo = Demo(program, Path(folder), COUNT, console)
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


def take_pictures(demo: Demo, project: int, browser: str, out: Path) -> None:
    """One picture of each screen."""
    site = f"{demo.label_studio.url}/projects/{project}/data"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        log_in(page, demo.label_studio.url)
        page.goto(site)
        page.wait_for_selector(".lsf-table__row-wrapper img")
        keep(page, out / "manager.png", (1400, 780))
        page.goto(f"{site}?task={first_task(demo, project)}")
        page.wait_for_selector("button[name=submit]")
        page.wait_for_selector(".htx-ranker-item img")
        keep(page, out / "review.png", (1400, 1100))
        import_more(demo, project)
        wait_for_work(page, demo)
        keep(page, out / "status.png", (1100, 620))
        chromium.close()


def log_in(page: Page, url: str) -> None:
    """Through the form, as everybody does."""
    page.goto(f"{url}/user/login/")
    page.fill("input[name=email]", USERNAME)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda address: "/login" not in address)


def first_task(demo: Demo, project: int) -> int:
    """The number of the task that was imported first."""
    answer = demo.label_studio.api("GET", f"/api/tasks?project={project}&page_size=500").json()
    return min(int(task["id"]) for task in answer["tasks"])


def import_more(demo: Demo, project: int) -> None:
    """Work for the status page to show, and one task that cannot succeed."""
    tasks = [{"image": "http://127.0.0.1/private.png", "prompt": "add a hat"}]
    for number, bear in enumerate(demo_tasks(COUNT, MORE_SEED)):
        content = io.BytesIO()
        bear.image.save(content, "PNG")
        upload = demo.label_studio.api(
            "POST",
            f"/api/projects/{project}/import?commit_to_project=false",
            files={"file": (f"more-{number}.png", content.getvalue(), "image/png")},
        ).json()["file_upload_ids"][0]
        file = demo.label_studio.api("GET", f"/api/import/file-upload/{upload}").json()["file"]
        tasks.append({"image": f"/data/{file}", "prompt": bear.instruction})
    demo.label_studio.api("POST", f"/api/projects/{project}/import", json=tasks)


def wait_for_work(page: Page, demo: Demo) -> None:
    """Return with the status page open at a moment when something runs and something failed."""
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


def keep(page: Page, path: Path, size: tuple[int, int]) -> None:
    """Save what the page shows, as a small file."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    if path.name != "status.png":
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(path, optimize=True)
    if path.stat().st_size > LIMIT_BYTES:
        picture.quantize(256, kmeans=4, dither=Image.Dither.NONE).save(path, optimize=True)
    console.print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
