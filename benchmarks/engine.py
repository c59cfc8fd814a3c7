"""Benchmarks of the engine: a search versus a plain loop, memory, and enqueueing 1,000 tasks.

Everything is measured in one run, side by side; the raw results are kept as JSON Lines.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from PIL import Image
from rich.console import Console
from rich.progress import track

from eacps import images as pixels
from eacps.artifacts import ArtifactStore
from eacps.demo.label_studio import free_port
from eacps.demo.tasks import DemoTask, demo_tasks
from eacps.domain import Candidate, EditTask, Trial
from eacps.editors import open_editor
from eacps.editors.diffusers.noise import materialise
from eacps.images import TaskImages
from eacps.runner import Device, search
from eacps.scoring import Potential, open_scorers
from eacps.settings import PACKAGE, Settings, load_settings

console = Console()


def main() -> None:
    """Run the selected parts and write the results with a description of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--tasks", type=int, default=8, help="tasks in the overhead comparison")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["overhead", "memory", "enqueue"], default=None)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = [machine(arguments.threads)]
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "overhead": lambda: overhead(arguments.tasks, arguments.threads),
        "memory": memory,
        "enqueue": lambda: enqueue(1000),
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            rows += part()
    arguments.out.mkdir(parents=True, exist_ok=True)
    target = arguments.out / f"engine{'-' + arguments.only if arguments.only else ''}.jsonl"
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        if row["kind"] != "pair":
            console.print(row)
    console.print(f"raw results: {target}")


def machine(threads: int) -> dict[str, Any]:
    """The machine and the versions of packages."""
    from importlib.metadata import version

    packages = ("torch", "diffusers", "transformers", "open_clip_torch", "dbos")
    return {
        "kind": "machine",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in packages},
    }


def overhead(count: int, threads: int) -> list[dict[str, Any]]:
    """Time per task of our search with 8 candidates, and of a plain loop over the same trials."""
    import torch

    torch.set_num_threads(threads)
    settings = load_settings()
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(f"file://{folder}")
        parts = Parts(settings, store)
        tasks = demo_tasks(count + 1, seed=11)
        rows = []
        for number, bear in enumerate(track(tasks, "search against plain loop")):
            row = parts.compare(bear, ours_first=number % 2 == 0)
            if number:  # the first task is for warming up
                rows.append(row)
    ratios = [row["ratio"] for row in rows]
    summary = {
        "kind": "overhead",
        "tasks": len(rows),
        "candidates": rows[0]["candidates"],
        "median_ratio": round(statistics.median(ratios), 3),
        "worst_ratio": max(ratios),
        "best_ratio": min(ratios),
        "median_search_seconds": round(statistics.median(r["search_seconds"] for r in rows), 3),
        "median_loop_seconds": round(statistics.median(r["loop_seconds"] for r in rows), 3),
        "median_nfe": statistics.median(row["nfe"] for row in rows),
        "largest_pixel_difference": max(row["largest_pixel_difference"] for row in rows),
    }
    return [*rows, summary]


class Parts:
    """Our engine and a handwritten loop, with the same weights and scorers."""

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        from diffusers import DiffusionPipeline

        self.settings = settings
        self.store = store
        self.potential = Potential.of(settings)
        self.scorers = open_scorers(settings, "cpu", self.potential.metric_names)
        editor = open_editor(settings, "cpu")
        self.device = Device(editor, self.scorers, self.potential, store, settings)
        self.pipe = DiffusionPipeline.from_pretrained(settings.editor, dtype=_float32())
        self.pipe.set_progress_bar_config(disable=True)

    def compare(self, bear: DemoTask, *, ours_first: bool) -> dict[str, Any]:
        """Run a task in both ways; a first search determines the noises for the loop."""
        name = self.store.put(pixels.encode_png(bear.image), "png")
        # The first search has a different key, so that the timed search cannot use its caches.
        rehearsed = self.search(EditTask(name, bear.instruction, plan=self.settings.plan))
        task = EditTask(name, bear.instruction, plan=self.settings.plan, fingerprint="timed")
        trials = [candidate.trial for candidate in rehearsed]
        seconds: dict[str, float] = {}
        images: list[Image.Image] = []

        def ours() -> None:
            self.search(task)

        def theirs() -> None:
            images.extend(self.plain_loop(task, bear.image, trials))

        for label, work in (("search", ours), ("loop", theirs))[:: 1 if ours_first else -1]:
            started = time.perf_counter()
            work()
            seconds[label] = time.perf_counter() - started
        return {
            "kind": "pair",
            "instruction": bear.instruction,
            "candidates": len(rehearsed),
            "nfe": sum(candidate.nfe for candidate in rehearsed),
            "search_seconds": round(seconds["search"], 3),
            "loop_seconds": round(seconds["loop"], 3),
            "ratio": round(seconds["search"] / seconds["loop"], 3),
            "largest_pixel_difference": self.difference(rehearsed, images),
        }

    def search(self, task: EditTask) -> list[Candidate]:
        """Run our engine, in the order of the trials."""
        found: list[Candidate] = []

        def run_batches(batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
            finished = [c for batch in batches for c in self.device.run_batch(task, batch)]
            found.extend(finished)
            return finished

        search(task, run_batches)
        return found

    def plain_loop(
        self, task: EditTask, source: Image.Image, trials: Sequence[Trial]
    ) -> Iterator[Image.Image]:
        """Render, score and save each candidate separately."""
        small = source.reduce(source.width // 64)
        for trial in trials:
            image = self.pipe(
                task.instruction,
                image=small,
                num_inference_steps=self.settings.steps,
                guidance_scale=self.settings.guidance,
                image_guidance_scale=self.settings.image_guidance,
                latents=materialise(trial.noise, (1, 6, 16, 16)),
            ).images[0]
            image = image.resize(source.size, Image.Resampling.LANCZOS)
            for scorer in self.scorers:
                scorer.score(task, TaskImages(source), [image], [1.0])
            self.store.put(pixels.encode_png(image), "png")
            yield image

    def difference(self, candidates: Sequence[Candidate], images: Sequence[Image.Image]) -> int:
        """The largest difference of pixel values between both ways."""
        import numpy

        worst = 0
        for candidate, image in zip(candidates, images, strict=True):
            ours = Image.open(io.BytesIO(self.store.get(candidate.image or "")))
            gap = numpy.abs(numpy.asarray(ours, int) - numpy.asarray(image, int)).max()
            worst = max(worst, int(gap))
        return worst


def _float32() -> Any:
    import torch

    return torch.float32


def memory() -> list[dict[str, Any]]:
    """The resident memory of web server, orchestrator and worker after a search."""
    with _backend(workers=True) as (url, process):
        body = _task_body()
        started = time.perf_counter()
        answer = requests.post(f"{url}/predict", json=body, timeout=180).json()
        seconds = time.perf_counter() - started
        assert answer["results"][0].get("result"), answer
        rows = []
        for child in process.children(recursive=True):
            words = child.cmdline()
            role = _role(words)
            if role:
                rows.append(
                    {
                        "kind": "memory",
                        "process": role,
                        "resident_mb": round(child.memory_info().rss / 1e6),
                    }
                )
        rows.append({"kind": "first_predict", "seconds_from_warm_web": round(seconds, 2)})
        return rows


def _role(words: list[str]) -> str:
    line = " ".join(words)
    if "gunicorn" in line:
        return "web"
    if "--orchestrator" in line:
        return "orchestrator"
    return "worker" if "--slot" in line else ""


def _task_body() -> dict[str, Any]:
    import base64

    bear = demo_tasks(1, seed=3)[0]
    data = base64.b64encode(pixels.encode_png(bear.image)).decode()
    task = {
        "id": 1,
        "data": {"image": f"data:image/png;base64,{data}", "prompt": bear.instruction},
    }
    return {"tasks": [task], "project": "1.0", "label_config": "", "params": {}}


def enqueue(count: int) -> list[dict[str, Any]]:
    """The response time of a TASKS_CREATED webhook with many tasks, and whether all are queued."""
    with _backend(workers=False) as (url, _process):
        tasks = [
            {"id": n, "project": 1, "data": {"image": f"/data/upload/1/{n}.png", "prompt": f"p{n}"}}
            for n in range(1, count + 1)
        ]
        body = {"action": "TASKS_CREATED", "project": {"id": 1}, "tasks": tasks}
        rows = []
        for attempt in ("first", "again"):
            started = time.perf_counter()
            answer = requests.post(f"{url}/webhook", json=body, timeout=60)
            seconds = time.perf_counter() - started
            queued = requests.get(f"{url}/status.json", timeout=30).json()["counts"]
            rows.append(
                {
                    "kind": "enqueue",
                    "attempt": attempt,
                    "tasks": count,
                    "status": answer.status_code,
                    "seconds": round(seconds, 3),
                    "queued": queued,
                }
            )
        return rows


@contextmanager
def _backend(*, workers: bool) -> Iterator[tuple[str, psutil.Process]]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE.parent),
            "EACPS_DATA_DIR": folder,
            "EACPS_PORT": str(port),
            "EACPS_DEVICES": "cpu",
            "HF_HUB_OFFLINE": "1",
        }
        if not workers:
            environment["LABEL_STUDIO_URL"] = "http://127.0.0.1:9"
        command = [sys.executable, "-m", "eacps", "serve", *([] if workers else ["--web-only"])]
        with (Path(folder) / "log").open("wb") as log:
            started = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, workers=workers)
            yield url, psutil.Process(started.pid)
        finally:
            started.terminate()
            started.wait(30)


def _wait(url: str, *, workers: bool) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            status = requests.get(f"{url}/status.json", timeout=5).json()
            if not workers or len(status["workers"]) >= 2:
                return
        except (requests.RequestException, ValueError):
            pass
        time.sleep(0.3)
    raise RuntimeError("the backend did not start")


if __name__ == "__main__":
    main()
