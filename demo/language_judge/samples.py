"""What the tiny judge learns from: drawn outcomes of instructions, and attempts of the pack's
editors, each with what it shall write.

Of attempts the shipped verifier's reader of pictures says what they show, and the generator's truth
what was asked for; the oracle, which measures the judge, has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray

from demo.attempts import Sampler
from demo.language_judge.model import IMAGE, PATCH, PLACES, answer
from demo.manifest import PACK
from demo.tensors import to_array, to_tensor
from demo.training.augmentation import softened
from demo.training.autoencoder import Autoencoder
from demo.training.evidence import taught
from eacps.demo.bears import SIZE, attributes, random_edit, random_scene, render
from eacps.demo.bears.language import describe
from eacps.demo.bears.scene import (
    BACKGROUNDS,
    BODY_COLOURS,
    FIELDS,
    ITEM_COLOURS,
    KINDS,
    PARTS,
    SLOTS,
    Scene,
    attributes_of,
    changed_parts,
    edited_part,
)
from eacps.demo.tasks import EASY, HARD, MEDIUM, demo_tasks
from eacps.demo.verifier.loading import loaded_verifier
from eacps.demo.verifier.network import TraitReader

Pictures = NDArray[numpy.uint8]
SEED: Final = 8_100_000
TASKS: Final = 24
EACH: Final = 4
MEAN: Final = torch.tensor([0.48145466, 0.4578275, 0.40821073])
SPREAD: Final = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Shard:
    """Tasks with attempts [tasks, EACH, ...] and soft labels [tasks, EACH, 3]."""

    sources: Pictures
    attempts: Pictures
    labels: NDArray[numpy.float32]
    instructions: list[str]
    answers: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcomes:
    """Pictures in -1..1 with what was asked for, and what the judge shall write."""

    sources: torch.Tensor
    edits: torch.Tensor
    instructions: list[str]
    answers: list[str]


def patches(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures [count, 3, SIZE, SIZE] in -1..1 as the rows that the image processor would make."""
    scaled = ((pictures + 1) / 2 - MEAN[:, None, None]) / SPREAD[:, None, None]
    side = SIZE // PATCH // 2
    grid = scaled.reshape(len(pictures), 3, side, 2, PATCH, side, 2, PATCH)
    rows = grid.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 3, 1, PATCH, PATCH)
    return rows.repeat(1, 1, 2, 1, 1).flatten(1)


def value(scene: Scene, part: str) -> str:
    """What a scene shows at a part, in one word, or for items in two."""
    kind, colour = scene.state(part)
    if part in SLOTS:
        return (
            f"{ITEM_COLOURS[colour - 1]} {KINDS[part][kind].split()[0]}" if kind else f"no {part}"
        )
    return BODY_COLOURS[kind] if part == "body" else BACKGROUNDS[kind]


def reasons(
    before: Scene, shown: Scene, required: Mapping[str, int], rest: bool
) -> tuple[str, int, int]:
    """What source and edit show, part by part, with what became of it, and both scores; `rest`
    says whether everything else is as it was."""
    found = dict(zip(FIELDS, attributes(shown), strict=True))
    rows, marks = [], []
    for part in PARTS:
        wanted = {name: required[name] for name in attributes_of(part) if name in required}
        if wanted:
            mark = "done" if all(found[name] == one for name, one in wanted.items()) else "missing"
        else:
            mark = "same" if before.state(part) == shown.state(part) else "changed"
        marks.append(mark)
        rows.append(f"{part} {value(before, part)}, {value(shown, part)} {mark}")
    marks.append("same" if rest else "changed")
    rows.append(f"rest {marks[-1]}")
    return "; ".join(rows), 9 * ("missing" not in marks), 9 * ("changed" not in marks)


def with_attributes(scene: Scene, values: Sequence[int]) -> Scene:
    """The scene with what a picture of it shows instead, as far as its words go."""
    items = {}
    for place, slot in enumerate(SLOTS):
        kind, colour = values[2 + 2 * place : 4 + 2 * place]
        items[slot] = replace(scene.items[slot], kind=kind, colour=max(1, colour) if kind else 0)
    return replace(
        scene,
        body=replace(scene.body, kind=values[0]),
        background=replace(scene.background, kind=values[1]),
        items=items,
    )


def asked(instruction: str, pictures: bool = True) -> str:
    """The prompt as the processor would write it, with every picture's places."""
    image = f"<|vision_start|>{IMAGE * PLACES}<|vision_end|>" if pictures else ""
    return f"1:{image}2:{image}{instruction}<|im_end|><|im_start|>"


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

    def explained(self, number: int) -> Shard:
        """The shard with what the shipped verifier's reader of pictures sees, as answers."""
        shard = self.shard(number)
        if shard.answers:
            return shard
        level = (MEDIUM, HARD, MEDIUM, EASY)[number % 4]
        tasks = demo_tasks(TASKS, SEED + number, SIZE, level.single_share)
        self._reader = _shipped_reader()
        for row, task in enumerate(tasks):
            with torch.no_grad():
                seen = [one.argmax(1) for one in self._reader(to_tensor(shard.attempts[row]))]
            texts = []
            for place in range(EACH):
                values = [int(one[place]) for one in seen]
                shown = with_attributes(task.before, values)
                _, _, kept = reasons(task.before, shown, task.required, rest=True)
                rest = not kept or bool(shard.labels[row, place, 1] > 0.5)
                texts.append(answer(*reasons(task.before, shown, task.required, rest)))
            shard.answers.append(texts)
        return shard

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
    """Drawn outcomes of instructions: carried out, not, or with something else changed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._noisy = Autoencoder(PACK / "editor-early" / "vae").noisy

    def words(self, count: int) -> tuple[list[str], list[str]]:
        """Instructions and whole answers, without pictures."""
        drawn = [self._one() for _ in range(count)]
        return [told for _, _, told, _ in drawn], [said for *_, said in drawn]

    def outcomes(self, count: int) -> Outcomes:
        """Drawn outcomes, softened as an editor would."""
        drawn = [self._one() for _ in range(count)]
        scenes = [one[0] for one in drawn] + [one[1] for one in drawn]
        pictures = to_tensor(to_array([render(scene) for scene in scenes]))
        soft = softened(pictures, self._generator, self._noisy)
        told, said = [one[2] for one in drawn], [one[3] for one in drawn]
        return Outcomes(soft[:count], soft[count:], told, said)

    def _one(self) -> tuple[Scene, Scene, str, str]:
        before = random_scene(self._random, self._random.choice((0.3, 0.5)))
        wanted = random_edit(before, self._random)
        told = describe(before, wanted, self._random)
        shown = self._outcome(before, wanted)
        rest = self._random.random() < 0.75
        if not rest:
            shown = replace(shown, pose=random_scene(self._random, 0.5).pose)
        said = answer(*reasons(before, shown, told.required, rest))
        return before, shown, told.text, said

    def _outcome(self, before: Scene, after: Scene) -> Scene:
        chance = self._random.random()
        if chance < 0.3:
            return after
        if chance < 0.4:
            return before
        if chance < 0.7:
            return random_edit(after, self._random, self._random.choice((1, 1, 2)))
        if chance < 0.8:
            return random_edit(before, self._random)
        part = self._random.choice(changed_parts(before, after))
        return edited_part(before, before, part, self._random)
