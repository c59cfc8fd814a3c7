"""What the parts of a search cost on one device: seconds of processor time on one thread.

A search's seconds are computed from these prices and from what it did, not from its own clock,
because its renders are shared with other searches and the machine with other work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from PIL import Image

from benchmarks.search.judges import TOGETHER, VERIFIER
from benchmarks.search.problems import Problem
from benchmarks.search.workshop import Workshop
from eacps.domain import Noise, Trial

BATCH: Final = 4
REPEATS: Final = 9

Prices = Mapping[str, Any]
"""`open`: of a task; `step`: of denoising a picture by one step; `picture`: of decoding it;
`judge`: of judging it, by scorer."""


def measure_prices(workshop: Workshop, problem: Problem) -> Prices:
    """The prices of a level's editor and scorers, in batches of four: the least of nine
    measurements each, because other work on the machine only adds."""
    rounds = [_round(workshop, problem, number) for number in range(REPEATS + 1)]
    first, one, whole = (min(column) for column in zip(*rounds[1:], strict=True))
    step = (whole - one) / (workshop.steps - 1) / BATCH
    images = [Image.new("RGB", problem.bear.source.size, (40 * row, 90, 120)) for row in range(4)]
    judging = {
        name.split("-")[0]: _least(partial(scorer, problem, images, [1.0] * BATCH)) / BATCH
        for name, scorer in workshop.scorers.items()
        if not name.startswith("oracle")
    }
    prices = {"open": first - one, "step": step, "picture": one / BATCH - step}
    rounded = {name: round(max(price, 0.0), 6) for name, price in prices.items()}
    return {**rounded, "judge": {name: round(price, 6) for name, price in judging.items()}}


def seconds(prices: Prices, judge: str, steps: float, judged: float) -> float:
    """What a search costs that denoises so many steps, and judges so many pictures."""
    kinds = {VERIFIER: ("verifier",), TOGETHER: ("verifier", "clip")}
    scorers = kinds.get(judge) or (("verifier",) if judge.startswith("oracle") else ("clip",))
    judging = sum(prices["judge"].get(scorer, 0.0) for scorer in scorers)
    return float(prices["open"] + steps * prices["step"] + judged * (prices["picture"] + judging))


def _round(workshop: Workshop, problem: Problem, number: int) -> tuple[float, ...]:
    """Seconds of opening a task and a first step, of a first step, and of a whole render."""

    def trials(start: int, to_step: int | None) -> list[Trial]:
        seeds = range(start, start + BATCH)
        return [Trial(f"c{seed}", Noise(seed), to_step=to_step) for seed in seeds]

    start = 1_000 * number
    began = time.process_time()
    session = workshop.session(problem)
    session.advance(trials(start, 1))
    opened = time.process_time()
    session.advance(trials(start + 100, 1))
    begun = time.process_time()
    session.advance(trials(start + 200, None))
    return opened - began, begun - opened, time.process_time() - begun


def _least(call: Callable[[], Any]) -> float:
    found = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found[1:])
