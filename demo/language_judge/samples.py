"""What the tiny judge learns from: renders with descriptions, and attempts of the pack's editors.

Attempts are labelled by the shipped verifier's reader of pictures and by the generator's truth, as
for the shipped verifier; the oracle, which measures the judge, has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray

from demo.attempts import Sampler
from demo.language_judge.model import DESCRIBE, IMAGE, PATCH, PLACES
from demo.manifest import PACK
from demo.tensors import to_array, to_tensor
from demo.training.augmentation import softened
from demo.training.autoencoder import Autoencoder
from demo.training.evidence import taught
from eacps.demo.bears import SIZE, attributes, random_edit, random_scene, render
from eacps.demo.bears.scene import BACKGROUNDS, BODY_COLOURS, ITEM_COLOURS, KINDS, SLOTS
from eacps.demo.tasks import EASY, HARD, MEDIUM, demo_tasks
from eacps.demo.verifier.loading import loaded_verifier
from eacps.demo.verifier.network import TraitReader
from eacps.rubrics.reading import Rubric
from eacps.verifiers.language import prompts

Pictures = NDArray[numpy.uint8]
SEED: Final = 8_100_000
TASKS: Final = 24
EACH: Final = 4
QUESTIONS: Final = ("satisfied", "preserved", "intact")
MEAN: Final = torch.tensor([0.48145466, 0.4578275, 0.40821073])
SPREAD: Final = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Shard:
    """Tasks with attempts [tasks, EACH, ...] and soft labels [tasks, EACH, 3]."""

    sources: Pictures
    attempts: Pictures
    labels: NDArray[numpy.float32]
    instructions: list[str]


def patches(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures [count, 3, SIZE, SIZE] in -1..1 as the rows that the image processor would make."""
    scaled = ((pictures + 1) / 2 - MEAN[:, None, None]) / SPREAD[:, None, None]
    side = SIZE // PATCH // 2
    grid = scaled.reshape(len(pictures), 3, side, 2, PATCH, side, 2, PATCH)
    rows = grid.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 3, 1, PATCH, PATCH)
    return rows.repeat(1, 1, 2, 1, 1).flatten(1)


def description(attributes: Sequence[int]) -> str:
    """What a picture shows, in ten words."""
    words = [BODY_COLOURS[attributes[0]], BACKGROUNDS[attributes[1]]]
    for place, slot in enumerate(SLOTS):
        kind, colour = attributes[2 + 2 * place : 4 + 2 * place]
        words += [ITEM_COLOURS[colour - 1], KINDS[slot][kind].split()[0]] if kind else ["no", slot]
    return " ".join(words)


def asked(titles: Sequence[str], words: str) -> str:
    """A prompt as the processor would write it, with every picture's places."""
    image = f"<|vision_start|>{IMAGE * PLACES}<|vision_end|>"
    return "".join(f"{title}{image}" for title in titles) + f"{words}<|im_end|><|im_start|>"


def asked_about(rubric: Rubric, question: str, instruction: str) -> str:
    """The prompt of one of the rubric's questions."""
    titles = [prompts.TITLES["source"], prompts.TITLES["edited"]]
    words = prompts.asking_in_one_token(
        rubric, rubric.calls[0], rubric.questions[question], instruction
    )
    return asked(titles, words)


def asked_to_compare(rubric: Rubric, instruction: str) -> str:
    """The prompt that compares two edits."""
    words = prompts.comparing_in_one_token(rubric, instruction)
    return asked(["Source:", "Edit one:", "Edit two:"], words)


def asked_to_describe(which: str) -> str:
    """The prompt for the description of one of two pictures."""
    titles = [prompts.TITLES["source"], prompts.TITLES["edited"]]
    return asked(titles, DESCRIBE.format(which))


class Bank:
    """Attempts in shards, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[int, Shard] = {}
        self._samplers: dict[str, Sampler] = {}

    def shard(self, number: int) -> Shard:
        """The shard of this number."""
        if number not in self._shards:
            path = self._folder / f"shard-{number}.npz"
            if not path.is_file():
                self._make(number, path)
            with numpy.load(path, allow_pickle=False) as file:
                words = json.loads(str(file["instructions"]))
                self._shards[number] = Shard(
                    file["sources"], file["attempts"], file["labels"], words
                )
        return self._shards[number]

    def made(self) -> list[int]:
        """The numbers of the shards that exist."""
        return sorted(int(path.stem[6:]) for path in self._folder.glob("shard-*.npz"))

    def _make(self, number: int, path: Path) -> None:
        level = (MEDIUM, HARD, MEDIUM, EASY)[number % 4]
        name = level.settings.editor
        if not self._samplers:
            self._shown = Autoencoder(PACK / name / "vae").shown
            self._reader = _shipped_reader()
        if name not in self._samplers:
            self._samplers[name] = Sampler(PACK / name, quick=True)
        tasks = demo_tasks(TASKS, SEED + number, SIZE, level.single_share)
        repeated = [task for task in tasks for _ in range(EACH)]
        seeds = [1_000 * (SEED + number) + place for place in range(len(repeated))]
        finals = self._samplers[name].attempts(repeated, seeds, level.settings).finals
        sources = to_array([task.source for task in tasks])
        shown = self._shown(to_tensor(sources))
        parts = torch.split(to_tensor(finals), EACH)
        labels = [taught(self._reader, *each) for each in zip(tasks, shown, parts, strict=True)]
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".part.npz")
        numpy.savez_compressed(
            fresh,
            sources=sources,
            attempts=finals.reshape(TASKS, EACH, SIZE, SIZE, 3),
            labels=torch.stack(labels).numpy().astype(numpy.float32),
            instructions=json.dumps([task.instruction for task in tasks]),
        )
        fresh.rename(path)


def _shipped_reader() -> TraitReader:
    network: Any = loaded_verifier(str(PACK / "verifier"), "cpu")._network
    reader: TraitReader = network.shown
    return reader


class Scenes:
    """Renders with descriptions: two of one scene, before and after a random edit."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._noisy = Autoencoder(PACK / "editor-early" / "vae").noisy

    def pairs(self, count: int) -> tuple[torch.Tensor, torch.Tensor, list[tuple[str, str]]]:
        """Sources and edits, softened as an editor would, and what they show."""
        before = [random_scene(self._random, self._random.choice((0.3, 0.5))) for _ in range(count)]
        after = [random_edit(scene, self._random) for scene in before]
        told = [
            (description(attributes(one)), description(attributes(other)))
            for one, other in zip(before, after, strict=True)
        ]
        pictures = to_tensor(to_array([render(scene) for scene in (*before, *after)]))
        soft = softened(pictures, self._generator, self._noisy)
        return soft[:count], soft[count:], told
