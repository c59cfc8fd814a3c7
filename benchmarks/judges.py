"""Measure levels and judges on held-out tasks: `python -m benchmarks.judges`.

The oracle says which attempts succeed; how well does each judge tell them apart, and how early?
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from demo.attempts import PREVIEWS, Attempts, Sampler
from demo.manifest import PACK
from demo.oracle import Oracle
from demo.training.autoencoder import Autoencoder
from eacps.demo.bears import SIZE
from eacps.demo.tasks import LEVELS, DemoTask, Level
from eacps.demo.verifier.loading import UNKNOWN_PROGRESS
from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.plugins import Context
from eacps.scoring.clip import ClipScorer
from eacps.scoring.lpips import LpipsScorer
from eacps.scoring.potential import Potential
from eacps.settings import load_settings
from eacps.verifiers.scorer import VerifierScorer

WEIGHTS: Final[dict[str, dict[str, float]]] = {
    "pf": {"pf": 1},
    "pf_dir + 0.3 lpips": {"pf_dir": 1, "lpips": 0.3},
    "satisfied": {"satisfied": 1},
    "preserved": {"preserved": 1},
    "intact": {"intact": 1},
    "verified": {"verified": 1},
}
ORACLE: Final = "oracle"
UNTOLD: Final = "verified, progress untold"
BOOTSTRAPS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Judged:
    """Per task and attempt: whether it succeeded, and the scores of each judge for each view."""

    success: NDArray[numpy.bool_]
    strict: NDArray[numpy.bool_]
    """Success for an oracle that does not forgive what the editor's codec cannot draw."""
    finals: dict[str, NDArray[numpy.float64]]
    previews: dict[float, dict[str, NDArray[numpy.float64]]]


class Judges:
    """The scorers to measure, and the oracle."""

    def __init__(self, pack: Path) -> None:
        settings = load_settings(clip=str(pack / "clip"), verifier=str(pack / "verifier"))
        context = Context(settings)
        self._scorers = (ClipScorer.load(context), LpipsScorer.load(context))
        self._verifier = VerifierScorer.load(context)
        self._potentials = {
            name: Potential.of(load_settings(potential="weighted", weights=weights))
            for name, weights in WEIGHTS.items()
        }
        self._oracle = Oracle.load(pack / "oracle", Autoencoder(pack / "editor" / "vae").shown)
        self._strict = Oracle.load(pack / "oracle")

    def truth(self, task: DemoTask, images: list[Image.Image]) -> list[list[float]]:
        """Success, strict success and the oracle's score of every attempt."""
        forgiving, strict = self._oracle.judge(task, images), self._strict.judge(task, images)
        return [[a.success, b.success, a.score] for a, b in zip(forgiving, strict, strict=True)]

    def scores(
        self, task: DemoTask, images: list[Image.Image], progress: float
    ) -> dict[str, list[float]]:
        """The scores of all judges for the images."""
        # Scorers cache by the task's key, which must differ even for the same instruction.
        name = hashlib.sha256(task.source.tobytes()).hexdigest()
        asked, seen = EditTask(name, task.instruction), TaskImages(task.source)
        told = [progress] * len(images)
        metrics = [dict(row) for row in self._verifier.score(asked, seen, images, told)]
        for scorer in self._scorers:
            for row, more in zip(metrics, scorer.score(asked, seen, images, told), strict=True):
                row.update(more)
        scores = {
            name: [potential.judge(row).value or 0.0 for row in metrics]
            for name, potential in self._potentials.items()
        }
        untold = self._verifier.score(asked, seen, images, [UNKNOWN_PROGRESS] * len(images))
        return scores | {UNTOLD: [row["verified"] for row in untold]}


def attempted(
    level: Level, pack: Path, count: int, attempts: int, cache: Path | None
) -> list[Attempts]:
    """The attempts of the level's editor at its held-out tasks, optionally cached."""
    kept = cache and cache / f"{level.name}-{count}-{attempts}.npz"
    if kept and kept.is_file():
        return _loaded(kept)
    sampler, made = Sampler(pack / level.settings.editor), []
    for number, task in enumerate(track(level.held_out(count, SIZE), level.name)):
        seeds = [level.held_out_seed * 10_000 + 100 * number + n for n in range(attempts)]
        made.append(sampler.attempts([task] * attempts, seeds, level.settings, PREVIEWS))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        views = [numpy.stack([each.finals, *(view for _, view in each.previews)]) for each in made]
        shares = [share for share, _ in made[0].previews]
        numpy.savez_compressed(kept, views=numpy.stack(views), shares=shares)
    return made


def _loaded(path: Path) -> list[Attempts]:
    with numpy.load(path, allow_pickle=False) as file:
        views, shares = file["views"], file["shares"].tolist()
    return [Attempts(row[0], list(zip(shares, row[1:], strict=True))) for row in views]


def judged(level: Level, made: Sequence[Attempts], judges: Judges) -> Judged:
    """Judge every attempt and preview with all judges."""
    tasks = level.held_out(len(made), SIZE)
    pairs = list(zip(tasks, made, strict=True))
    truth = numpy.array([judges.truth(task, _images(each.finals)) for task, each in pairs])
    finals = _stacked([judges.scores(task, _images(each.finals), 1.0) for task, each in pairs])
    previews = {
        share: _stacked(
            [
                judges.scores(task, _images(each.previews[index][1]), share)
                for task, each in track(pairs, f"{level.name} at {share:.0%}")
            ]
        )
        for index, (share, _) in enumerate(made[0].previews)
    }
    finals[ORACLE] = truth[..., 2]
    return Judged(truth[..., 0] > 0, truth[..., 1] > 0, finals, previews)


def _images(pictures: NDArray[numpy.uint8]) -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in pictures]


def _stacked(rows: Sequence[dict[str, list[float]]]) -> dict[str, NDArray[numpy.float64]]:
    return {name: numpy.array([row[name] for row in rows]) for name in rows[0]}


def auc(scores: NDArray[numpy.float64], success: NDArray[numpy.bool_]) -> float:
    """The AUC: how often a success scores above a failure; a tie counts half."""
    margins = scores[success][:, None] - scores[~success][None]
    return float((0.5 * (1 + numpy.sign(margins))).mean()) if margins.size else float("nan")


def auc_inside(
    scores: NDArray[numpy.float64], success: NDArray[numpy.bool_]
) -> tuple[float, float, float]:
    """The mean over tasks with both outcomes of the AUC inside the task, with its 95 % interval."""
    mixed = success.any(1) & ~success.all(1)
    each = numpy.array([auc(*row) for row in zip(scores[mixed], success[mixed], strict=True)])
    if not len(each):
        return float("nan"), float("nan"), float("nan")
    random = numpy.random.default_rng(0)
    means = random.choice(each, (BOOTSTRAPS, len(each))).mean(1)
    low, high = numpy.quantile(means, (0.025, 0.975))
    return float(each.mean()), float(low), float(high)


def summary(result: Judged) -> dict[str, Any]:
    """The numbers for one level in the pack's README."""
    truths = {"": result.success, " (strict)": result.strict}
    report: dict[str, Any] = {
        f"{key}{tag}": float(value)
        for tag, success in truths.items()
        for key, value in {
            "single": success.mean(),
            "best": success.any(1).mean(),
            "mixed": (success.any(1) & ~success.all(1)).mean(),
        }.items()
    }
    report["judges"] = {
        name: _quality(scores, result.success, result.strict)
        for name, scores in result.finals.items()
    }
    report["previews"] = {
        f"{share:.2f}": {
            name: _quality(scores, result.success, result.strict) for name, scores in views.items()
        }
        for share, views in result.previews.items()
    }
    return report


def _quality(
    scores: NDArray[numpy.float64], success: NDArray[numpy.bool_], strict: NDArray[numpy.bool_]
) -> dict[str, Any]:
    picked = numpy.take_along_axis(success, scores.argmax(1)[:, None], 1)
    return {
        "auc": auc(scores.ravel(), success.ravel()),
        "auc inside": auc_inside(scores, success),
        "auc inside (strict)": auc_inside(scores, strict),
        "pick": float(picked.mean()),
    }


def machine(threads: int) -> dict[str, Any]:
    """The machine and the versions of packages."""
    return {
        "processor": platform.machine(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "open_clip_torch")},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, attempt, judge, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judges", description=__doc__)
    parser.add_argument("--pack", type=Path, default=PACK)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the report is written as JSON")
    parser.add_argument("--cache", type=Path, help="folder to cache attempts for other judges")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    judges = Judges(options.pack)
    levels = {}
    for level in LEVELS:
        made = attempted(level, options.pack, options.tasks, options.attempts, options.cache)
        levels[level.name] = summary(judged(level, made, judges))
    about = {"tasks": options.tasks, "attempts": options.attempts, **machine(options.threads)}
    text = json.dumps({"about": about, "levels": levels}, indent=2) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
