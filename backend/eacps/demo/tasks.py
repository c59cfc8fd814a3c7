"""Demo tasks with ground truth: `python -m eacps.demo.tasks --count 12 --seed 7 --out DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy
from PIL import Image

from eacps.demo.bears import (
    FIELDS,
    SIZE,
    Requirement,
    Scene,
    attributes,
    changed_parts,
    describe,
    random_edit,
    random_scene,
    render,
)
from eacps.demo.bears.scene import attributes_of

SHOWN_SIZE: Final = 256
EMPTINESS: Final = (0.45, 0.6, 0.75)
SINGLE_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class EditorSettings:
    """An editor of the demo pack, and its sampling settings."""

    editor: str
    steps: int
    guidance: float


@dataclass(frozen=True, slots=True)
class DemoTask:
    """A picture and an instruction, with the scenes before and after the edit as ground truth."""

    image: Image.Image
    instruction: str
    before: Scene
    after: Scene
    required: Requirement

    @property
    def kept(self) -> Requirement:
        """The fields that the edit must not change, with their values."""
        changed = {
            f for part in changed_parts(self.before, self.after) for f in attributes_of(part)
        }
        truth = zip(FIELDS, attributes(self.before), strict=True)
        return {field: value for field, value in truth if field not in changed}

    @property
    def source(self) -> Image.Image:
        """The picture at the editor's native size."""
        return render(self.before)


@dataclass(frozen=True, slots=True)
class Level:
    """A difficulty: a distribution of tasks and an editor.

    The held-in set is for choosing settings, the held-out set for reporting. No model of the pack
    was trained on either.
    """

    name: str
    single_share: float
    """The share of tasks with one operation; the others have two."""
    settings: EditorSettings
    held_in_seed: int
    held_out_seed: int

    def held_in(self, count: int, size: int = SHOWN_SIZE) -> list[DemoTask]:
        """Tasks for choosing settings."""
        return demo_tasks(count, self.held_in_seed, size, self.single_share)

    def held_out(self, count: int, size: int = SHOWN_SIZE) -> list[DemoTask]:
        """Tasks for reporting only."""
        return demo_tasks(count, self.held_out_seed, size, self.single_share)


EASY: Final = Level("easy", SINGLE_SHARE, EditorSettings("editor", 10, 2.0), 61_001, 62_001)
MEDIUM: Final = Level(
    "medium", SINGLE_SHARE, EditorSettings("editor-early", 10, 1.0), 61_002, 62_002
)
HARD: Final = Level("hard", 0.0, EditorSettings("editor-early", 10, 1.0), 61_003, 62_003)
LEVELS: Final = (EASY, MEDIUM, HARD)


def demo_tasks(
    count: int, seed: int, size: int = SHOWN_SIZE, single_share: float = SINGLE_SHARE
) -> list[DemoTask]:
    """Tasks with distinct instructions; a longer list starts with the same tasks."""
    if size % SIZE:
        raise ValueError(f"size must be a multiple of {SIZE}, not {size}")
    random, factor = Random(seed), size // SIZE
    tasks: dict[str, DemoTask] = {}
    while len(tasks) < count:
        before = random_scene(random, random.choice(EMPTINESS))
        operations = 1 if random.random() < single_share else 2
        after = random_edit(before, random, operations)
        asked = describe(before, after, random)
        if asked.text not in tasks:
            image = enlarged(render(before), factor)
            tasks[asked.text] = DemoTask(image, asked.text, before, after, asked.required)
    return list(tasks.values())


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    """Enlarge an image smoothly, so that `Image.reduce(factor)` restores it exactly.

    Each block of pixels is shifted until its mean equals the original pixel. The picture looks
    smooth, and the editor still works on exactly the scene of the ground truth.
    """
    size = (image.width * factor, image.height * factor)
    smooth = numpy.asarray(image.resize(size, Image.Resampling.BICUBIC), numpy.int32)
    grid = (image.height, factor, image.width, factor, 3)
    blocks = smooth.reshape(grid).transpose(0, 2, 4, 1, 3).reshape(*image.size[::-1], 3, -1)
    wanted = factor * factor * numpy.asarray(image, numpy.int32)
    while (missing := (wanted - blocks.sum(-1))[..., None]).any():
        room = numpy.where(missing > 0, blocks < 255, blocks > 0)
        each, rest = numpy.divmod(missing, room.sum(-1, keepdims=True).clip(1))
        share = each + (room.cumsum(-1) <= rest)
        blocks = (blocks + room * share).clip(0, 255)
    pixels = blocks.reshape(*image.size[::-1], 3, factor, factor).transpose(0, 3, 1, 4, 2)
    return Image.fromarray(pixels.reshape(*size[::-1], 3).astype(numpy.uint8))


def write_tasks(tasks: Sequence[DemoTask], folder: Path) -> Path:
    """Write the pictures and a `tasks.json` with instructions and ground truth."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, task in enumerate(tasks, start=1):
        name = f"bear-{number:02d}.png"
        task.image.save(folder / name)
        truth = {"required": dict(task.required), "kept": dict(task.kept)}
        rows.append({"image": name, "prompt": task.instruction, "truth": truth})
    path = folder / "tasks.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the tasks."""
    parser = argparse.ArgumentParser(prog="python -m eacps.demo.tasks", description=__doc__)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--size", type=int, default=SHOWN_SIZE, help=f"a multiple of {SIZE}")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    path = write_tasks(demo_tasks(options.count, options.seed, options.size), options.out)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
