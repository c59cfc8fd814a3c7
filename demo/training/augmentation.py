"""Augmentation that makes renders look like an editor's output."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Decode = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Passes pictures through the editor's autoencoder, with a little noise on the latents."""


def softened(
    pictures: torch.Tensor, random: torch.Generator, decode: Decode | None = None
) -> torch.Tensor:
    """Damage pictures mildly, so that all attributes remain readable."""
    if decode is not None:
        half = len(pictures) // 2
        pictures = torch.cat([decode(pictures[:half], random), pictures[half:]])
    pictures = _blurred(pictures, random)
    shape = (len(pictures), 1, 1, 1)
    contrast = 1 + 0.1 * (torch.rand(shape, generator=random) - 0.5)
    brightness = 0.1 * (torch.rand(shape, generator=random) - 0.5)
    amount = 0.08 * torch.rand(shape, generator=random)
    grain = amount * torch.randn(pictures.shape, generator=random)
    across, down = torch.randint(-3, 4, (2,), generator=random).tolist()
    moved = torch.roll(pictures * contrast + brightness + grain, (down, across), (2, 3))
    return moved.clamp(-1, 1)


def _blurred(pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    padded = functional.pad(pictures, (1, 1, 1, 1), mode="reflect")
    averaged = functional.avg_pool2d(padded, 3, 1)
    halved = functional.interpolate(
        functional.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear"
    )
    draw = torch.rand((len(pictures), 1, 1, 1), generator=random)
    return torch.where(draw < 0.25, averaged, torch.where(draw < 0.4, halved, pictures))


def ruined(pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Damage pictures so strongly that no instruction counts as satisfied."""
    count = len(pictures)
    others = pictures[torch.randperm(count, generator=random)]
    mush = functional.interpolate(
        functional.avg_pool2d(pictures, 8), scale_factor=8, mode="bilinear"
    )
    mixture = 0.5 * pictures + 0.5 * others
    noise = pictures + 0.6 * torch.randn(pictures.shape, generator=random)
    chosen = (torch.rand((count, 1, 8, 8), generator=random) < 0.35).float()
    holes = functional.interpolate(chosen, scale_factor=8)
    patch = functional.interpolate(functional.avg_pool2d(others, 8), scale_factor=8)
    patched = pictures * (1 - holes) + holes * patch
    kinds = torch.stack([mush, mixture, noise, patched])
    kind = torch.randint(0, len(kinds), (count,), generator=random)
    return kinds[kind, torch.arange(count)].clamp(-1, 1)
