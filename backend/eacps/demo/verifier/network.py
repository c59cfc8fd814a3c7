"""The verifier's network: source, edited image and instruction in, three logits out.

One branch reads traits from both images, and from the instruction the requested traits and those
that may change, and compares them. Another branch looks at the difference of the images, to detect
what traits cannot express, such as artifacts, and to predict how a preview will develop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

OUTPUTS: Final = ("satisfied", "preserved", "intact")
KERNEL: Final = 5
GROUPS: Final = 8
GRID: Final = 4
DROPOUT: Final = 0.2
UNLIKELY: Final = 1e-4


@dataclass(frozen=True, slots=True)
class VerifierShape:
    """The network's configuration in a verifier's `config.json`."""

    image_size: int
    vocabulary: int
    context: int
    text_width: int
    traits: tuple[int, ...]
    """The number of values of each trait of an image."""
    trait_widths: tuple[int, int, int, int]
    trait_hidden: int
    change_widths: tuple[int, int, int]
    hidden: int

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> VerifierShape:
        """Parse JSON; raises ValueError or TypeError."""
        lists = ("traits", "trait_widths", "change_widths")
        shape = cls(**{**content, **{name: tuple(content.get(name, ())) for name in lists}})
        widths = (*shape.trait_widths, *shape.change_widths)
        numbers = [shape.image_size, shape.vocabulary, shape.context, shape.text_width]
        numbers += [shape.trait_hidden, shape.hidden, *shape.traits, *widths]
        if not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("every size must be a positive whole number")
        if not shape.traits or len(shape.trait_widths) != 4 or len(shape.change_widths) != 3:
            raise ValueError("it needs traits, four trait_widths and three change_widths")
        if shape.image_size % (GRID * 16) or any(width % GROUPS for width in widths):
            raise ValueError(
                f"image_size must be a multiple of {GRID * 16}, all widths multiples of {GROUPS}"
            )
        return shape

    def as_json(self) -> dict[str, Any]:
        """The configuration as a JSON object."""
        return asdict(self)


class TraitReader(nn.Module):
    """Classifies the traits of an image, with one softmax per trait."""

    def __init__(self, traits: tuple[int, ...], widths: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.traits = traits
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, after, 5, stride=2, padding=2),
                nn.GroupNorm(GROUPS, after),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(widths[-1] * GRID * GRID, hidden), nn.SiLU(), nn.Linear(hidden, sum(traits))
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits per trait for images in -1..1."""
        return torch.split(self.head(self.body(images)), list(self.traits), 1)


class InstructionReader(nn.Module):
    """Predicts from token ids which values are requested and which traits may change."""

    def __init__(self, shape: VerifierShape) -> None:
        super().__init__()
        width = shape.text_width
        self.embedding = nn.Embedding(shape.vocabulary, width)
        self.near = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.far = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.asked = nn.Linear(2 * width, sum(shape.traits))
        self.free = nn.Linear(2 * width, len(shape.traits))

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [N, all values] of requested values, [N, traits] of traits that may change."""
        words = self.embedding(ids).transpose(1, 2)
        words = words + functional.silu(self.near(words))
        words = words + functional.silu(self.far(words))
        meaning = torch.cat([words.amax(2), words.mean(2)], 1)
        return self.asked(meaning), self.free(meaning)


class _Steered(nn.Module):
    """A convolution with conditional scale and shift of its normalised channels (FiLM)."""

    def __init__(self, before: int, after: int, condition: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, after)
        self.steer = nn.Linear(condition, 2 * after)

    def forward(self, maps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Apply the convolution."""
        scale, shift = self.steer(condition)[:, :, None, None].chunk(2, 1)
        normed: torch.Tensor = self.norm(self.convolution(maps))
        return functional.silu(normed * (1 + scale) + shift)


class VerifierNetwork(nn.Module):
    """Compares the images with the instruction."""

    def __init__(self, shape: VerifierShape) -> None:
        super().__init__()
        self.shape = shape
        values, traits = sum(shape.traits), len(shape.traits)
        condition = values + traits + 2
        first, second, third = shape.change_widths
        self.shown = TraitReader(shape.traits, shape.trait_widths, shape.trait_hidden)
        self.meant = InstructionReader(shape)
        self.change = nn.ModuleList(
            [
                _Steered(9, first, condition, 2),
                _Steered(first, second, condition, 2),
                _Steered(second, third, condition, 2),
            ]
        )
        self.seen = nn.Linear(third * GRID * GRID, shape.hidden)
        self.decide = nn.Sequential(
            nn.Linear(shape.hidden + 3 * traits + 2 + condition, shape.hidden),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(shape.hidden, len(OUTPUTS)),
        )

    def forward(
        self,
        source: torch.Tensor,
        edited: torch.Tensor,
        ids: torch.Tensor,
        progress: torch.Tensor,
    ) -> torch.Tensor:
        """Logits [N, 3] in the order of OUTPUTS, for images in -1..1.

        `progress` [N] is the share of completed denoising steps, or negative if unknown.
        """
        known = (progress >= 0).float()
        asked, free = (logits.float().sigmoid() for logits in self.meant(ids))
        condition = torch.cat([asked, free, torch.stack([progress * known, known], 1)], 1)
        compared = self._compared(source, edited, asked, free)
        maps = torch.cat([source, edited, (edited - source).abs()], 1)
        for block in self.change:
            maps = block(maps, condition)
        pooled = functional.adaptive_avg_pool2d(maps, GRID).flatten(1)
        seen = functional.dropout(functional.silu(self.seen(pooled)), DROPOUT, self.training)
        logits: torch.Tensor = self.decide(torch.cat([seen, compared, condition], 1))
        return logits

    def _compared(
        self, source: torch.Tensor, edited: torch.Tensor, asked: torch.Tensor, free: torch.Tensor
    ) -> torch.Tensor:
        """Per trait, the negative log probabilities that it is as requested, that it is unchanged,
        and that it is readable; and the maxima of the first two."""
        both = self.shown(torch.cat([source, edited]))
        halves = [logits.float().softmax(1).chunk(2) for logits in both]
        wanted = torch.split(asked, list(self.shape.traits), 1)
        missed, lost, unsure = [], [], []
        for index, ((before, after), want) in enumerate(zip(halves, wanted, strict=True)):
            missed.append((want * _unlikely(after)).sum(1))
            lost.append((1 - free[:, index]) * _unlikely((before * after).sum(1)))
            unsure.append(_unlikely(after.amax(1)))
        rows = [torch.stack(each, 1) for each in (missed, lost, unsure)]
        worst = torch.stack([rows[0].amax(1), rows[1].amax(1)], 1)
        return torch.cat([*rows, worst], 1)


def _unlikely(probability: torch.Tensor) -> torch.Tensor:
    return -probability.clamp(min=UNLIKELY).log()
