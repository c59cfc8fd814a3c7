"""Turns noise recipes into tensors; a recipe gives the same noise on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from eacps.domain import Noise

_SEED_MODULUS = 2**63


def generator(seed: int) -> torch.Generator:
    """A CPU generator, because random numbers differ between devices."""
    return torch.Generator("cpu").manual_seed(seed % _SEED_MODULUS)


def materialise(noise: Noise, shape: Sequence[int]) -> torch.Tensor:
    """The recipe as a float32 tensor of independent standard normal numbers."""
    tensor = _normal(noise.seed, shape)
    for move in noise.moves:
        # z' = cos(t) z + sin(t) eps has unit variance, and correlation cos(t) with z
        tensor = math.cos(move.angle) * tensor + math.sin(move.angle) * _normal(move.seed, shape)
    return tensor


def materialise_all(noises: Sequence[Noise], shape: Sequence[int]) -> torch.Tensor:
    """One tensor per recipe, stacked."""
    return torch.stack([materialise(noise, shape) for noise in noises])


def step_generator(noise: Noise, shape: Sequence[int]) -> torch.Generator:
    """The generator for samplers that add noise at every step, advanced past the starting noise.

    Children get the same generator as their first ancestor, so that only their moves differ.
    """
    drawn = generator(noise.seed)
    torch.randn(tuple(shape), generator=drawn)
    return drawn


def _normal(seed: int, shape: Sequence[int]) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=generator(seed), dtype=torch.float32)
