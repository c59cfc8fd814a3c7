"""Measure an editor of the pack with the oracle: `python -m benchmarks.pack FOLDER`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from rich.progress import track

from demo.manifest import PACK
from demo.oracle import Oracle, Verdict
from demo.training.autoencoder import Autoencoder
from eacps.demo.tasks import DemoTask, demo_tasks

SAMPLER = {"num_inference_steps": 12, "guidance_scale": 2.0, "image_guidance_scale": 1.0}


def load_editor(folder: Path) -> Any:
    """The pipeline in single precision; without `dtype`, its parts differ in precision."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def attempts(pipeline: Any, task: DemoTask, count: int, seed: int) -> list[Any]:
    """Independent edits of one task."""
    generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
    return list(
        pipeline(
            [task.instruction] * count,
            image=[task.source] * count,
            generator=generators,
            **SAMPLER,
        ).images
    )


def summary(verdicts: Sequence[Sequence[Verdict]]) -> dict[str, float]:
    """Success rates of one sample and of the oracle's best, and the share of mixed tasks."""
    success = numpy.array([[verdict.success for verdict in row] for row in verdicts])
    flat = [verdict for row in verdicts for verdict in row]
    return {
        "single": float(success.mean()),
        "best": float(success.any(1).mean()),
        "mixed": float((success.any(1) & ~success.all(1)).mean()),
        "requested": float(numpy.mean([verdict.requested > 0.5 for verdict in flat])),
        "kept": float(numpy.mean([verdict.kept > 0.5 for verdict in flat])),
        "outside": float(numpy.mean([verdict.outside for verdict in flat])),
    }


def main() -> None:
    """Parse the command line, edit, judge, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description=__doc__)
    parser.add_argument("editor", type=Path)
    parser.add_argument("--oracle", type=Path, default=PACK / "oracle")
    parser.add_argument("--tasks", type=int, default=120)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipeline = load_editor(options.editor)
    oracle = Oracle.load(options.oracle, Autoencoder(options.editor / "vae").shown)
    verdicts = []
    for number, task in enumerate(track(demo_tasks(options.tasks, options.seed, 64))):
        images = attempts(pipeline, task, options.attempts, options.seed + 1000 * number)
        verdicts.append(oracle.judge(task, images))
    print(json.dumps(summary(verdicts), indent=2))


if __name__ == "__main__":
    main()
