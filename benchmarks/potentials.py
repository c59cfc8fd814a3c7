"""Compares how well potentials choose the best attempt, judged by the demo pack's oracle.

Every potential chooses among the same candidates of the same tasks; raw results are kept.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from demo.oracle import Oracle
from eacps.demo.tasks import DemoTask, demo_tasks
from eacps.domain import EditTask, Noise, Trial
from eacps.editors import open_editor
from eacps.images import TaskImages
from eacps.runner import finish
from eacps.scoring import Potential, open_scorers
from eacps.settings import load_settings

METRICS = ("pf", "pf_dir", "cons", "lpips")
POTENTIALS: dict[str, dict[str, Any]] = {
    "eacps": {"potential": "eacps"},
    "pf": {"potential": "weighted", "weights": {"pf": 1}},
    "pf_dir": {"potential": "weighted", "weights": {"pf_dir": 1}},
    "pf_dir + 0.3 lpips": {"potential": "weighted", "weights": {"pf_dir": 1, "lpips": 0.3}},
    "pf_dir + lpips": {"potential": "weighted", "weights": {"pf_dir": 1, "lpips": 1}},
    "cons": {"potential": "weighted", "weights": {"cons": 1}},
}


def main() -> None:
    """Render, judge, choose, and print how often each choice is a success."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the raw results")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    rows = attempts(arguments.tasks, arguments.seed, arguments.attempts, arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    target = arguments.out / "potentials.jsonl"
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    show(rows)


def attempts(count: int, seed: int, number: int, threads: int) -> list[dict[str, Any]]:
    """One row per task with each attempt's metrics and the oracle's verdict."""
    import torch

    torch.set_num_threads(threads)
    settings = load_settings()
    editor = open_editor(settings, "cpu")
    scorers = open_scorers(settings, "cpu", METRICS)
    oracle = Oracle.load()
    rows = []
    for index, bear in enumerate(track(demo_tasks(count, seed), "attempts")):
        task = EditTask(f"task-{index}", bear.instruction, plan=settings.plan)
        images = TaskImages(bear.image)
        trials = [Trial(f"c{n}", Noise(1000 * index + n)) for n in range(number)]
        edited = [finish(images, render) for render in editor.open(task, images).advance(trials)]
        metrics: list[dict[str, float]] = [{} for _ in edited]
        for scorer in scorers:
            for merged, new in zip(
                metrics, scorer.score(task, images, edited, [1.0] * len(edited)), strict=True
            ):
                merged.update(new)
        rows.append(
            {"instruction": bear.instruction, "metrics": metrics, **_judge(oracle, bear, edited)}
        )
    return rows


def _judge(oracle: Oracle, bear: DemoTask, edited: list[Any]) -> dict[str, Any]:
    small = [image.reduce(image.width // 64) for image in edited]
    verdicts = oracle.judge(bear, small)
    return {
        "success": [bool(verdict.success) for verdict in verdicts],
        "score": [round(float(verdict.score), 4) for verdict in verdicts],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """A table of success rates with paired bootstrap intervals against the first attempt."""
    choices = {"first attempt": [0] * len(rows)}
    for name, overrides in POTENTIALS.items():
        potential = Potential.of(load_settings(**overrides))
        choices[name] = [_choose(potential, row["metrics"]) for row in rows]
    choices["the oracle itself"] = [row["score"].index(max(row["score"])) for row in rows]
    table = Table("chosen by", "success", "gain over one attempt (95 %)", "oracle score")
    base = [row["success"][0] for row in rows]
    for name, chosen in choices.items():
        success = [row["success"][index] for row, index in zip(rows, chosen, strict=True)]
        gains = [int(one) - int(two) for one, two in zip(success, base, strict=True)]
        low, high = _interval(gains)
        score = sum(row["score"][i] for row, i in zip(rows, chosen, strict=True)) / len(rows)
        rate = sum(success) / len(rows)
        table.add_row(name, f"{rate:.3f}", f"{low:+.3f} … {high:+.3f}", f"{score:.3f}")
    Console().print(table)


def _choose(potential: Potential, metrics: list[dict[str, float]]) -> int:
    values = [potential.judge(raw).value or float("-inf") for raw in metrics]
    return values.index(max(values))


def _interval(gains: list[int], rounds: int = 2000) -> tuple[float, float]:
    generator = random.Random(0)
    means = sorted(sum(generator.choices(gains, k=len(gains))) / len(gains) for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds)]


if __name__ == "__main__":
    main()
