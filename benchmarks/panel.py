"""Measures the panel: first paint and memory with many large candidates, and what it asks for.

A real Label Studio has the task, the real web process serves the panel, and Chromium shows it.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright
from pydantic import SecretStr

import eacps
from benchmarks.screenshots import BROWSERS, FLAGS
from eacps.artifacts import open_store
from eacps.domain import Candidate, Metric, Noise, SearchResult, Trial, to_json
from eacps.images import encode_png, thumbnail
from eacps.jobs.client import JobClient
from eacps.labelstudio.cards.contract import PANEL
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.tasks.origins import new_job, origin_of
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer
from tests.web_server import Server, serving

OBSERVED_SECONDS = 20
MEGABYTE = 1e6
WAIT_MS = 300_000


def main() -> None:
    """Measure, and append one row per measurement to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eacps-panel-"))
    rows = []
    with LabelStudioServer() as label_studio, chromium() as browser:
        given = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.token}
        with serving(folder, **given, EACPS_IMAGE_HOSTING="backend") as web:
            settings = Settings(
                _env_file=None,
                data_dir=folder / "data",
                port=web.port,
                label_studio_url=label_studio.url,
                label_studio_api_key=SecretStr(label_studio.token),
                image_hosting="backend",
            )
            address, task = finished_task(settings, label_studio, arguments)
            for _ in range(arguments.repeat):
                rows.append(paint(browser, web, address))
            rows.append(browse(browser, web, address, arguments.candidates))
            rows.append(quiet(browser, web, address))
            enqueue(settings, label_studio, task)
            rows.append(busy(browser, web, address))
    machine = {
        "version": eacps.__version__,
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "load": psutil.getloadavg()[0],
        "candidates": arguments.candidates,
        "side": arguments.side,
    }
    with arguments.out.open("a") as file:
        for row in rows:
            file.write(json.dumps({**row, **machine}) + "\n")
            print(json.dumps(row))
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A fresh browser."""
    program = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


def finished_task(
    settings: Settings, label_studio: LabelStudioServer, arguments: argparse.Namespace
) -> tuple[str, int]:
    """The address of the panel of a task with so many candidates, and the task's number."""
    project = label_studio.create_project(label_config(settings))
    source = encode_png(picture(arguments.side, 0))
    image = label_studio.upload(project, "a.png", source)
    data = {"image": image, "prompt": "add a scarf"}
    [task] = label_studio.import_tasks(project, [{"data": data}])
    hooks, store = LabelStudioHooks(settings), open_store(settings)
    origin = to_json(origin_of(label_studio.task(task), settings, label_config=label_config()))
    asked = hooks.prepare(origin)
    made = []
    for index in range(arguments.candidates):
        drawn = picture(arguments.side, index + 1)
        score = 0.95 - index / (2 * arguments.candidates)
        parent = f"c{index // 4}" if index > 7 else None
        made.append(
            Candidate(
                Trial(f"c{index + 1}", Noise(index), parent=parent),
                image=store.put(quickly_encoded(drawn), "png"),
                thumbnail=store.put(thumbnail(drawn), "jpg"),
                metrics=(Metric("verified", score, score, 1.0, score),),
                potential=score,
                nfe=24,
            )
        )
    hooks.deliver(origin, SearchResult(asked, tuple(made), nfe=24 * len(made), seconds=60.0))
    return f"{settings.resolved_public_url}/panel/{label_studio.data(task)[PANEL]}/", task


def picture(side: int, number: int) -> Image.Image:
    """A picture with fine detail, so that its file has the size of a photograph's."""
    noise = Image.effect_noise((side // 2, side // 2), 24).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    level = Image.linear_gradient("L").resize((side, side))
    drawn = Image.merge("RGB", (Image.blend(level, noise, 0.3), level.rotate(90), noise))
    size = side // 6 + number
    ImageDraw.Draw(drawn).ellipse((size, size, 3 * size, 3 * size), fill=(200, 3 * number, 40))
    return drawn


def quickly_encoded(drawn: Image.Image) -> bytes:
    """A PNG file, made in a fraction of the time that a small one takes."""
    file = io.BytesIO()
    drawn.save(file, "PNG", compress_level=1)
    return file.getvalue()


def enqueue(settings: Settings, label_studio: LabelStudioServer, task: int) -> None:
    """A job of the task that waits, because no orchestrator is running."""
    origin = origin_of(label_studio.task(task), settings, label_config=label_config())
    JobClient(settings).submit(new_job(replace(origin, model_version="another"), 10))


def opened(browser: Browser, address: str) -> tuple[Page, list[str], float]:
    """A new panel, what it asks for, and when its large pictures stood, in seconds."""
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    began = time.perf_counter()
    page.goto(address)
    page.locator(".pane .layer > img").nth(1).wait_for(state="attached", timeout=WAIT_MS)
    return page, asked, time.perf_counter() - began


def paint(browser: Browser, web: Server, address: str) -> dict[str, Any]:
    """How long it takes until something, and until both large pictures are seen."""
    page, asked, both = opened(browser, address)
    page.wait_for_load_state("networkidle")
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    row = {
        "what": "open",
        "first_paint_s": round(first / 1000, 3),
        "both_pictures_s": round(both, 3),
        "requests": len(asked),
        "kilobytes": round(received(page) / 1000),
        **memory(page),
        "web_mb": web_memory(web),
    }
    page.context.close()
    return row


def browse(browser: Browser, web: Server, address: str, count: int) -> dict[str, Any]:
    """Every candidate is shown once, in each mode."""
    page, asked, _ = opened(browser, address)
    began = time.perf_counter()
    steps = 0
    for mode in "124":
        page.keyboard.press(mode)
        page.keyboard.press("Home")
        for number in range(count):
            shown = page.locator(f".stage .tag[data-of^='c{number + 1}-']")
            shown.first.wait_for(state="attached", timeout=WAIT_MS)
            page.keyboard.press("ArrowRight")
            steps += 1
    row = {
        "what": "browse all candidates in three modes",
        "seconds_per_step": round((time.perf_counter() - began) / steps, 3),
        "requests": len(asked),
        **memory(page),
        "web_mb": web_memory(web),
    }
    page.context.close()
    return row


def quiet(browser: Browser, web: Server, address: str) -> dict[str, Any]:
    """What an open panel costs while nothing runs."""
    return {"what": "open, nothing runs", **observed(browser, web, address)}


def busy(browser: Browser, web: Server, address: str) -> dict[str, Any]:
    """What it costs while a job of its task waits or runs."""
    return {"what": "open, a job waits", **observed(browser, web, address)}


def observed(browser: Browser, web: Server, address: str) -> dict[str, Any]:
    page, asked, _ = opened(browser, address)
    page.wait_for_timeout(3000)
    before, used = len(asked), processor_time(web)
    page.wait_for_timeout(1000 * OBSERVED_SECONDS)
    row = {
        "requests_per_second": round((len(asked) - before) / OBSERVED_SECONDS, 3),
        "web_processor_share": round((processor_time(web) - used) / OBSERVED_SECONDS, 4),
        "web_mb": web_memory(web),
    }
    page.context.close()
    return row


def memory(page: Page) -> dict[str, Any]:
    """What the page holds: scripts' memory, and the whole process that draws it."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    return {
        "script_mb": round(metrics["JSHeapUsedSize"] / MEGABYTE, 1),
        "nodes": int(metrics["Nodes"]),
        "largest_renderer_mb": round(max(renderers().values(), default=0) / MEGABYTE),
    }


def renderers() -> Mapping[int, float]:
    """Memory of the browser's processes that draw pages (proportional: shared parts count once)."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" in child.cmdline():
                found[child.pid] = child.memory_full_info().pss
        except psutil.Error:
            continue
    return found


def received(page: Page) -> float:
    """Bytes that the page received."""
    return float(
        page.evaluate(
            "performance.getEntriesByType('resource').reduce((sum, e) => sum + e.transferSize, 0)"
        )
    )


def web_memory(web: Server) -> float:
    """Memory of the web server's processes, in megabytes."""
    return round(sum(each.memory_full_info().pss for each in processes(web)) / MEGABYTE, 1)


def processor_time(web: Server) -> float:
    """Seconds of processor time of the web server so far."""
    return sum(sum(each.cpu_times()[:2]) for each in processes(web))


def processes(web: Server) -> list[psutil.Process]:
    """The web server's processes."""
    main_process = psutil.Process(web.process.pid)
    return [main_process, *main_process.children(recursive=True)]


if __name__ == "__main__":
    main()
