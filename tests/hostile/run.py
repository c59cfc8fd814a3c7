"""Thousands of hostile inputs from a seed, for the real web process and the real preparation."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import requests

from eacps.domain import to_json
from eacps.errors import EacpsError, first_line
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.hostile.images import hostile_images, saved
from tests.hostile.requests import hostile_bodies, hostile_requests
from tests.hostile.tasks import hostile_tasks, random_config, random_tasks, spoiled
from tests.patience import PATIENCE
from tests.web_server import Server, serving

FIXTURES = Path(__file__).parents[1] / "fixtures" / "label_studio_requests"
HANG_SECONDS = 5.0
TOGETHER = 16
LIMITS = {
    # Incomplete requests end soon, which is what they are sent for.
    "EACPS_REQUEST_HEAD_SECONDS": "1",
    "EACPS_REQUEST_SECONDS": "2",
    "EACPS_PREDICT_WAIT_SECONDS": "0",
    "LABEL_STUDIO_URL": "http://127.0.0.1:9",
}
Reply = tuple[str, float]
"""What came of one input, and after how many seconds."""


@dataclass
class Tally:
    """What came of all inputs of one kind."""

    kind: str
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    hangs: int = 0
    crashes: int = 0
    bad: list[str] = field(default_factory=list)

    def add(self, name: str, reply: Reply) -> None:
        """Count one."""
        outcome, seconds = reply
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, seconds)
        self.hangs += seconds > HANG_SECONDS
        # 501 says that a transfer coding is not known.
        wrong = outcome.startswith(("5", "unexpected", "crash")) and outcome != "501"
        if wrong or seconds > HANG_SECONDS:
            self.bad.append(f"{outcome} after {seconds:.1f} s: {name[:300]}")

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": f"hostile {self.kind}",
            "seed": self.seed,
            "inputs": self.outcomes.total(),
            "outcomes": dict(self.outcomes.most_common()),
            "server errors": sum(
                count
                for outcome, count in self.outcomes.items()
                if outcome.startswith("5") and outcome != "501"
            ),
            "crashes": self.crashes,
            f"over {HANG_SECONDS:.0f} s": self.hangs,
            "slowest, s": round(self.slowest, 2),
            "load": round(os.getloadavg()[0], 1),
            "bad": self.bad[:20],
        }


def run(count: int, seed: int, say: Callable[[str], None] = lambda _: None) -> list[Tally]:
    """A third each: raw requests, bodies, and tasks that are prepared."""
    share = count // 3
    tallies = []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), **LIMITS) as server:
        # The first one creates the tables.
        requests.get(f"{server.url}/status.json", timeout=PATIENCE)
        tallies.append(_requests(server, share, seed))
        say(json.dumps(tallies[-1].row()))
        tallies.append(_bodies(server, share, seed))
        say(json.dumps(tallies[-1].row()))
        for tally in tallies:
            _count_crashes(server, tally)
    tallies.append(_tasks(count - 2 * share, seed))
    say(json.dumps(tallies[-1].row()))
    return tallies


def _count_crashes(server: Server, tally: Tally) -> None:
    log = server.log()
    tally.crashes = log.count("Booting worker") - 1
    if not server.is_up() or tally.crashes:
        tally.bad.append("the web process died")
    if "Traceback" in log:
        tally.bad.append(log[log.index("Traceback") :][:2000])


def _requests(server: Server, count: int, seed: int) -> Tally:
    chance = random.Random(seed)
    corpus = list(hostile_requests())
    chosen = [
        (name, spoiled(data, chance) if position >= len(corpus) else data)
        for position, (name, data) in enumerate(
            [*corpus, *(chance.choice(corpus) for _ in range(max(0, count - len(corpus))))][:count]
        )
    ]
    tally = Tally("requests", seed)
    with ThreadPoolExecutor(TOGETHER) as pool:
        answers = pool.map(partial(_sent, server.port), [data for _, data in chosen])
        for (name, _), reply in zip(chosen, answers, strict=True):
            tally.add(name, reply)
    return tally


def _sent(port: int, data: bytes) -> Reply:
    began = time.monotonic()
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        try:
            client.sendall(data)
            # From here on, waiting is the server's.
            began = time.monotonic()
            while part := client.recv(65_536):
                received += part
        except ConnectionError:
            pass
    words = received.split(b" ", 2)
    known = received.startswith(b"HTTP/1.") and len(words) > 1
    return words[1].decode("latin-1") if known else "closed", time.monotonic() - began


def _bodies(server: Server, count: int, seed: int) -> Tally:
    recorded = [json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))]
    chance = random.Random(seed)
    tally = Tally("bodies", seed)
    for body in hostile_bodies(recorded, count, seed):
        if chance.random() < 0.3:
            body["label_config"] = random_config(chance)
        path = chance.choice(["/predict", "/predict", "/webhook", "/webhook", "/setup"])
        began = time.monotonic()
        answer = requests.post(f"{server.url}{path}", data=json.dumps(body), timeout=PATIENCE)
        reply = str(answer.status_code), time.monotonic() - began
        tally.add(f"{path} {json.dumps(body)}", reply)
    return tally


def _tasks(count: int, seed: int) -> Tally:
    tally = Tally("tasks", seed)
    with tempfile.TemporaryDirectory() as folder:
        todo = list(_all_tasks(count, seed))
        while todo:
            todo = _prepared(tally, folder, todo)
    return tally


def _all_tasks(count: int, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
    images = [content for _, content in hostile_images()]
    images += [saved("RGB", kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")]
    corpus = [(task, "<View/>") for _, task in hostile_tasks()][:count]
    yield from corpus
    yield from random_tasks(count - len(corpus), seed, images)


def _prepared(
    tally: Tally, folder: str, todo: Sequence[tuple[dict[str, Any], str]]
) -> list[tuple[dict[str, Any], str]]:
    """Prepare these in another process; returns what is left if one of them kills it."""
    # Spawned: the settings are read there, as in an orchestrator.
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_open_hooks, initargs=(folder,)
    ) as pool:
        pool.submit(time.time).result()
        for position, (task, config) in enumerate(todo):
            name = f"{config[:100]} {json.dumps(task)}"
            try:
                tally.add(name, pool.submit(_prepare, task, config).result())
            except BrokenProcessPool:
                tally.crashes += 1
                tally.add(name, ("crash", 0.0))
                return list(todo[position + 1 :])
    return []


_hooks: list[tuple[Settings, LabelStudioHooks]] = []


def _open_hooks(folder: str) -> None:
    # What Pillow thinks of them.
    warnings.simplefilter("ignore")
    settings = Settings(_env_file=None, data_dir=Path(folder))
    _hooks.append((settings, LabelStudioHooks(settings)))


def _prepare(task: dict[str, Any], config: str) -> Reply:
    settings, hooks = _hooks[0]
    began = time.monotonic()
    try:
        hooks.prepare(to_json(origin_of(task, settings, label_config=config)))
        outcome = "accepted"
    except EacpsError as error:
        outcome = f"refused: {error.code}"
    except Exception as error:
        outcome = f"unexpected: {type(error).__name__}: {first_line(error)}"
    return outcome, time.monotonic() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m tests.hostile --count 10000`."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--out", type=Path, default=None, help="append the results to this file")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    tallies = run(given.count, given.seed, partial(print, flush=True))
    if given.out:
        with given.out.open("a") as file:
            file.writelines(json.dumps(tally.row()) + "\n" for tally in tallies)
    sys.exit(any(tally.bad for tally in tallies))
