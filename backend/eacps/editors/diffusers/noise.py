"""Noise recipes made into tensors: the same recipe is the same noise on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from eacps.domain import Noise

_SEED_MODULUS = 2**63


def generator(seed: int) -> torch.Generator:
    """A CPU generator: devices disagree about random numbers, so noise is made on the CPU."""
    return torch.Generator("cpu").manual_seed(seed % _SEED_MODULUS)


def materialise(noise: Noise, shape: Sequence[int]) -> torch.Tensor:
    """The recipe as a float32 tensor of independent standard normal numbers."""
    tensor = _normal(noise.seed, shape)
    for move in noise.moves:
        # z' = cos(t) z + sin(t) eps keeps unit variance and has correlation cos(t) with z
        tensor = math.cos(move.angle) * tensor + math.sin(move.angle) * _normal(move.seed, shape)
    return tensor


def materialise_all(noises: Sequence[Noise], shape: Sequence[int]) -> torch.Tensor:
    """One tensor per recipe, stacked."""
    return torch.stack([materialise(noise, shape) for noise in noises])


def step_generator(noise: Noise, shape: Sequence[int]) -> torch.Generator:
    """For samplers that add noise at every step: where a generator stands after it has drawn
    the first noise. Children draw what their first ancestor drew, so that only their moves tell
    them apart."""
    drawn = generator(noise.seed)
    torch.randn(tuple(shape), generator=drawn)
    return drawn


def _normal(seed: int, shape: Sequence[int]) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=generator(seed), dtype=torch.float32)
