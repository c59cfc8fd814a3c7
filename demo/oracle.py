"""The oracle judges whether an edit did what was asked, and nothing else. It guides no search.

It reads attributes with a network that shares no data and no seed with the editor or the scorer,
and it knows from the generator what must change and what must stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import torch
from PIL import Image
from torch.nn import functional

from demo.attributes import AttributeClassifier, load
from demo.manifest import PACK
from demo.tensors import to_array, to_tensor
from eacps.demo.bears import FIELDS, SLOTS, Scene, changed_parts, render
from eacps.demo.bears.scene import (
    ITEM_COLOURS,
    NONE,
    item_shade,
    random_background,
    random_body,
    random_item,
)
from eacps.demo.tasks import DemoTask

VARIANTS: Final = 16
CHANGED_LEVELS: Final = 25
ATTRIBUTE_THRESHOLD: Final = 0.5
OUTSIDE_LIMIT: Final = 0.04

Show = Callable[[torch.Tensor], torch.Tensor]
"""Passes a picture through an editor's codec."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The oracle's judgement of a picture."""

    requested: float
    """The lowest probability of any requested attribute."""
    kept: float
    """The lowest probability of any attribute that must not change."""
    outside: float
    """Mean absolute change (0..1) outside the region that the edit may touch."""
    inside: float
    """Mean absolute difference inside that region to the closest correct picture."""

    @property
    def success(self) -> bool:
        """Whether all requested attributes are present and everything else is unchanged."""
        present = min(self.requested, self.kept) > ATTRIBUTE_THRESHOLD
        return present and self.outside < OUTSIDE_LIMIT

    @property
    def score(self) -> float:
        """A graded score in 0..1, for ranking."""
        calm, close = math.exp(-self.outside / 0.05), math.exp(-self.inside / 0.15)
        return 0.6 * self.requested * self.kept + 0.2 * calm + 0.2 * close


class Oracle:
    """Judges edits of demo tasks.

    >>> task = demo_tasks(1, seed=0)[0]
    >>> Oracle.load().judge(task, [render(task.after)])[0].success
    True
    """

    def __init__(self, network: AttributeClassifier, show: Show | None = None) -> None:
        self._network, self._show = network, show or (lambda pictures: pictures)

    @classmethod
    def load(cls, folder: Path = PACK / "oracle", show: Show | None = None) -> Oracle:
        """Load the oracle; with `show`, it tolerates what an editor's codec cannot represent."""
        return cls(load(folder), show)

    @torch.no_grad()
    def judge(self, task: DemoTask, images: Sequence[Image.Image]) -> list[Verdict]:
        """One verdict per 64 x 64 edit of the task's picture."""
        pictures = to_tensor(to_array(images))
        source = to_tensor(to_array([task.source]))
        right = to_tensor(to_array([render(scene) for scene in acceptable(task)]))
        region = changed_region(source, right)
        outside = _mean_over(1 - region, (pictures - self._show(source)).abs().mean(1) / 2)
        distance = (pictures[:, None] - self._show(right)[None]).abs().mean(2) / 2
        inside = _mean_over(region, distance).amin(1)
        requested, kept = self._attributes(task, pictures)
        values = torch.stack([requested, kept, outside, inside], 1).tolist()
        return [Verdict(*row) for row in values]

    def _attributes(
        self, task: DemoTask, pictures: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        probabilities = [logits.softmax(1) for logits in self._network(pictures)]
        shown = dict(zip(FIELDS, probabilities, strict=True))
        requested = [shown[field][:, value] for field, value in task.required.items()]
        for slot in _slots_of_any_colour(task):
            requested.append(1 - shown[f"{slot}_colour"][:, NONE])
        kept = [shown[field][:, value] for field, value in task.kept.items()]
        return torch.stack(requested).amin(0), torch.stack(kept).amin(0)


def changed_region(source: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The region where correct pictures differ from the source, dilated by two pixels."""
    change = (right - source).abs().amax(1).amax(0) * 127.5
    region = (change > CHANGED_LEVELS).float()
    return functional.max_pool2d(region[None, None], 5, 1, 2)[0, 0]


def acceptable(task: DemoTask, count: int = VARIANTS, seed: int = 0) -> list[Scene]:
    """Equally correct scenes, with other shades, shapes and free colours."""
    random = Random(seed)
    parts = changed_parts(task.before, task.after)
    scenes = [task.after] * count
    for part in parts:
        scenes = [_another(task, scene, part, random) for scene in scenes]
    return scenes


def _another(task: DemoTask, scene: Scene, part: str, random: Random) -> Scene:
    kind, colour = task.after.state(part)
    if part == "body":
        return replace(scene, body=random_body(kind, random))
    if part == "background":
        return replace(scene, background=random_background(kind, random))
    if kind == NONE:
        return scene
    if kind == task.before.state(part)[0]:
        return scene.with_item(part, replace(scene.items[part], rgb=item_shade(colour, random)))
    if part in _slots_of_any_colour(task):
        colour = 1 + random.randrange(len(ITEM_COLOURS))
    return scene.with_item(part, random_item(kind, colour, random))


def _slots_of_any_colour(task: DemoTask) -> list[str]:
    asked = task.required
    return [s for s in SLOTS if asked.get(f"{s}_kind", NONE) and f"{s}_colour" not in asked]


def _mean_over(region: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = (values * region).sum((-2, -1))
    return total / region.sum().clamp(min=1)
