"""Noise recipes: the same everywhere, normal, and as far from each other as their angles say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eacps.domain import Noise
from eacps.editors.diffusers.noise import materialise, materialise_all, step_generator

SHAPE = (4, 64, 64)


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def test_a_seed_alone_is_what_a_plain_generator_draws() -> None:
    plain = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    assert torch.equal(materialise(Noise(7), SHAPE), plain)


def test_a_recipe_gives_the_same_numbers_every_time_and_alone_or_stacked() -> None:
    recipe = Noise(3).moved(0.4, 11).moved(0.2, 12)
    stacked = materialise_all([Noise(1), recipe], SHAPE)
    torch.manual_seed(99)
    assert torch.equal(stacked[1], materialise(recipe, SHAPE))


@given(
    seed=st.integers(-(2**63), 2**64),
    angles=st.lists(st.floats(0, math.pi / 2), max_size=4),
)
def test_any_recipe_keeps_unit_variance(seed: int, angles: list[float]) -> None:
    recipe = Noise(seed)
    for index, angle in enumerate(angles):
        recipe = recipe.moved(angle, seed + 1 + index)
    tensor = materialise(recipe, SHAPE)
    assert tensor.dtype == torch.float32
    assert float(tensor.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("angle", [0.0, 0.1, 0.4, 0.9, math.pi / 2])
def test_a_move_correlates_with_where_it_came_from_by_the_cosine(angle: float) -> None:
    start = Noise(5)
    moved = correlation(materialise(start, SHAPE), materialise(start.moved(angle, 6), SHAPE))
    assert moved == pytest.approx(math.cos(angle), abs=0.03)


def test_neighbouring_seeds_have_nothing_in_common() -> None:
    tensors = [materialise(Noise(seed), SHAPE) for seed in (100, 101, 102)]
    assert abs(correlation(tensors[0], tensors[1])) < 0.03
    assert abs(correlation(tensors[1], tensors[2])) < 0.03


def test_a_child_meets_the_same_noise_on_its_way_as_its_parent() -> None:
    parent = Noise(5)
    draws = [
        torch.randn(SHAPE, generator=step_generator(noise, SHAPE))
        for noise in (parent, parent.moved(0.3, 9), Noise(6))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
