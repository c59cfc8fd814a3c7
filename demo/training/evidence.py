"""Training data of the verifier: the editors' attempts with previews, and renders.

Attempts are labelled by the reader and the generator's ground truth; renders are labelled exactly,
since their scenes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy
import torch
from numpy.lib import format as npy

from demo.attempts import PREVIEWS, Pictures, Sampler
from demo.oracle import OUTSIDE_LIMIT, acceptable, changed_region
from demo.tensors import to_array, to_tensor
from demo.training.augmentation import ruined, softened
from demo.training.autoencoder import Autoencoder
from demo.training.optimisation import Tick
from demo.training.reader import certainty, lowest
from demo.training.recipe import VerifierRecipe
from demo.training.tokenizer import CONTEXT, token_ids
from eacps.demo.bears import FIELDS, SIZE, Scene, attributes, random_edit, random_scene, render
from eacps.demo.tasks import EASY, HARD, LEVELS, MEDIUM, DemoTask, EditorSettings, Level, demo_tasks
from eacps.demo.verifier.network import TraitReader

TASKS_IN_BATCH: Final = 16
VARIANTS: Final = 4
SOFTNESS: Final = 0.004
"""The width of the soft threshold for changes outside the region."""
UNKNOWN: Final = -1.0
SHIPPED_GUIDANCE: Final = 2.0
LOST: Final = 1 / 8
"""The share of tasks with renders damaged beyond recognition."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A batch: pictures in -1..1, token ids, progress, and the three target probabilities."""

    source: torch.Tensor
    edited: torch.Tensor
    ids: torch.Tensor
    progress: torch.Tensor
    targets: torch.Tensor


Rows = dict[str, Any]


def write_evidence(
    folder: Path, tasks: int, each: int, views: int, fill: Callable[[int, int], Rows], tick: Tick
) -> None:
    """Write a folder in batches of tasks; `fill` gets the batch's number and size."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "sources": ((SIZE, SIZE, 3), numpy.uint8),
        "views": ((each, views, SIZE, SIZE, 3), numpy.uint8),
        "progress": ((views,), numpy.float32),
        "labels": ((each, 3), numpy.float32),
        "ids": ((CONTEXT,), numpy.int16),
    }
    arrays = {
        name: npy.open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{name}.npy", "w+", kind, (tasks, *shape)
        )
        for name, (shape, kind) in shapes.items()
    }
    for number, start in enumerate(range(0, tasks, TASKS_IN_BATCH)):
        count = min(TASKS_IN_BATCH, tasks - start)
        for name, values in fill(number, count).items():
            arrays[name][start : start + count] = values
        tick()
    for array in arrays.values():
        array.flush()


class Attempted:
    """Attempts of the pack's editors at training tasks."""

    def __init__(
        self, recipe: VerifierRecipe, pack: Path, reader: TraitReader, tokenizer: Any
    ) -> None:
        self._recipe, self._reader, self._tokenizer = recipe, reader, tokenizer
        editors = {level.settings.editor for level in LEVELS}
        self._samplers = {name: Sampler(pack / name, quick=True) for name in editors}
        self._shown = Autoencoder(pack / LEVELS[0].settings.editor / "vae").shown

    def write(self, folder: Path, tick: Tick) -> None:
        """Write attempts and their previews to a folder."""
        tasks, each = self._recipe.attempted_tasks, self._recipe.outcomes
        write_evidence(folder, tasks, each, len(PREVIEWS) + 1, self._batch, tick)

    def _batch(self, number: int, count: int) -> Rows:
        level, settings = _attempted_with(number)
        seed, each = self._recipe.attempts_seed + number, self._recipe.outcomes
        drawn = demo_tasks(count, seed, SIZE, level.single_share)
        repeated = [task for task in drawn for _ in range(each)]
        seeds = [1_000 * seed + n for n in range(len(repeated))]
        made = self._samplers[settings.editor].attempts(repeated, seeds, settings, PREVIEWS)
        views = numpy.stack([*(view for _, view in made.previews), made.finals], 1)
        sources = to_array([task.source for task in drawn])
        shown, pictures = self._shown(to_tensor(sources)), torch.split(to_tensor(made.finals), each)
        labels = [taught(self._reader, *each) for each in zip(drawn, shown, pictures, strict=True)]
        return {
            "sources": sources,
            "views": views.reshape(count, each, *views.shape[1:]),
            "progress": [*(share for share, _ in made.previews), 1.0],
            "labels": torch.stack(labels).numpy(),
            "ids": token_ids(self._tokenizer, [task.instruction for task in drawn]),
        }


def _attempted_with(number: int) -> tuple[Level, EditorSettings]:
    """Mostly the difficult levels, and sometimes the default guidance."""
    level = (MEDIUM, HARD, MEDIUM, EASY, MEDIUM, HARD)[number % 6]
    settings = level.settings
    return level, replace(settings, guidance=SHIPPED_GUIDANCE) if number % 5 == 4 else settings


def taught(
    reader: TraitReader, task: DemoTask, source: torch.Tensor, pictures: torch.Tensor
) -> torch.Tensor:
    """Soft labels [N, 3] of attempts at one task: satisfied, preserved, intact.

    `source` is the source as the editor's codec shows it.
    """
    satisfied = lowest(reader, pictures, task.required)
    preserved = lowest(reader, pictures, task.kept) * calm(task, source, pictures)
    return torch.stack([satisfied, preserved, certainty(reader, pictures)], 1)


def calm(task: DemoTask, source: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Close to 1 if pictures hardly differ from the source outside the edited region."""
    clean = to_tensor(to_array([task.source]))
    right = to_tensor(to_array([render(scene) for scene in acceptable(task, VARIANTS, seed=1)]))
    beyond = 1 - changed_region(clean, right)
    change = (pictures - source).abs().mean(1) / 2
    outside = (change * beyond).sum((-2, -1)) / beyond.sum().clamp(min=1)
    return torch.sigmoid((OUTSIDE_LIMIT - outside) / SOFTNESS)


class Rendered:
    """Renders of training tasks: correct, wrong, unchanged, and damaged ones."""

    def __init__(self, recipe: VerifierRecipe, autoencoder: Autoencoder, tokenizer: Any) -> None:
        self._recipe, self._autoencoder, self._tokenizer = recipe, autoencoder, tokenizer
        self._random = Random(recipe.rendered_seed)
        self._generator = torch.Generator().manual_seed(recipe.rendered_seed)

    def write(self, folder: Path, tick: Tick) -> None:
        """Write renders to a folder, most of them passed through the editor's codec."""
        tasks, each = self._recipe.rendered_tasks, self._recipe.outcomes
        write_evidence(folder, tasks, each, 1, self._batch, tick)

    def _batch(self, number: int, count: int) -> Rows:
        level, seed = LEVELS[number % len(LEVELS)], self._recipe.rendered_seed + number
        drawn, each = demo_tasks(count, seed, SIZE, level.single_share), self._recipe.outcomes
        scenes = [[self._outcome(task) for _ in range(each)] for task in drawn]
        clean = to_tensor(to_array([render(scene) for row in scenes for scene in row]))
        labels = torch.stack(
            [_exact(*row) for row in zip(drawn, scenes, torch.split(clean, each), strict=True)]
        )
        views = self._seen(clean).reshape(count, each, *clean.shape[1:])
        lost = torch.rand(count, generator=self._generator) < LOST
        if lost.any():
            mush = ruined(views[lost].flatten(0, 1), self._generator)
            views[lost] = mush.reshape(views[lost].shape)
            labels[lost] = 0.0
        levels = ((views + 1) * 127.5).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
        return {
            "sources": to_array([task.source for task in drawn]),
            "views": levels[:, :, None].numpy(),
            "progress": 1.0,
            "labels": labels.numpy(),
            "ids": token_ids(self._tokenizer, [task.instruction for task in drawn]),
        }

    def _seen(self, clean: torch.Tensor) -> torch.Tensor:
        if self._random.random() < 0.6:
            return self._autoencoder.shown(clean)
        return softened(clean, self._generator, self._autoencoder.noisy)

    def _outcome(self, task: DemoTask) -> Scene:
        draw = self._random.random()
        if draw < 0.35:
            return self._random.choice(acceptable(task, VARIANTS, self._random.randrange(1 << 20)))
        if draw < 0.5:
            return task.before
        if draw < 0.7:
            return random_edit(task.after, self._random, 1)
        if draw < 0.9:
            return random_edit(task.before, self._random)
        return replace(task.after, pose=random_scene(self._random).pose)


def _exact(task: DemoTask, scenes: Sequence[Scene], clean: torch.Tensor) -> torch.Tensor:
    """Exact labels [N, 3] of known scenes."""
    truths = [dict(zip(FIELDS, attributes(scene), strict=True)) for scene in scenes]
    satisfied = torch.tensor([float(task.required.items() <= truth.items()) for truth in truths])
    kept = torch.tensor([float(task.kept.items() <= truth.items()) for truth in truths])
    preserved = kept * calm(task, to_tensor(to_array([task.source]))[0], clean)
    return torch.stack([satisfied, preserved, torch.ones(len(scenes))], 1)


class EvidenceFolder:
    """Draws batches from a folder written by `write_evidence`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._arrays = {path.stem: numpy.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
        self._random = numpy.random.default_rng(seed)

    def draw(self, size: int) -> Evidence:
        """Draw pairs of outcomes of one task; every other pair is final, half are mirrored."""
        arrays, random, pairs = self._arrays, self._random, size // 2
        tasks, each, kinds = arrays["views"].shape[:3]
        task = random.integers(0, tasks, pairs).repeat(2)
        outcome = random.integers(0, each, pairs).repeat(2)
        outcome[1::2] = (outcome[1::2] + random.integers(1, each, pairs)) % each
        view = numpy.where(random.random(pairs) < 0.5, kinds - 1, random.integers(0, kinds, pairs))
        view = view.repeat(2)
        progress = arrays["progress"][task, view]
        progress[random.random(size) < 0.3] = UNKNOWN
        views = arrays["views"][task, outcome, view]
        source, edited = self._mirrored(arrays["sources"][task], views)
        return Evidence(
            source=source,
            edited=edited,
            ids=torch.from_numpy(arrays["ids"][task]).long(),
            progress=torch.from_numpy(progress),
            targets=torch.from_numpy(arrays["labels"][task, outcome]),
        )

    def _mirrored(self, *pictures: Pictures) -> list[torch.Tensor]:
        # No instruction contains left or right.
        flip = torch.from_numpy(self._random.random(len(pictures[0])) < 0.5)[:, None, None, None]
        tensors = [to_tensor(each) for each in pictures]
        return [torch.where(flip, each.flip(3), each) for each in tensors]


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Concatenate batches."""
    return Evidence(
        source=torch.cat([part.source for part in parts]),
        edited=torch.cat([part.edited for part in parts]),
        ids=torch.cat([part.ids for part in parts]),
        progress=torch.cat([part.progress for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
    )
