"""Which ways of swapping a face are offered for review."""

from __future__ import annotations

from typing import Any

import pytest

from eacps.domain import SearchPlan, Swap
from eacps.errors import SettingsError
from eacps.faces.choices import SwapChoices, plan_of, swaps_of
from eacps.settings import load_settings


def swaps(**settings: Any) -> tuple[Swap, ...]:
    return swaps_of(plan_of(load_settings(**settings)))


def test_every_look_of_the_likeliest_mapping_then_the_other_mappings() -> None:
    offered = swaps(
        face_boosts=(256,), face_blends=(1.0, 0.5), face_shapes=(0.7,), face_alternatives=3
    )
    assert [(swap.assignment, swap.blend) for swap in offered] == [(0, 1), (0, 0.5), (1, 1), (2, 1)]


def test_a_restorer_makes_a_choice_of_its_own() -> None:
    assert not any(swap.restore for swap in swaps())
    with_restorer = swaps(face_restorer="gfpgan.onnx")
    assert {swap.restore for swap in with_restorer} == {True, False}
    assert with_restorer[0].restore, "the better look comes first"


def test_no_recipe_is_offered_twice() -> None:
    offered = swaps(face_restorer="gfpgan.onnx", face_boosts=(128, 256, 512))
    assert len(offered) == len(set(offered))


def test_choices_are_asked_once_under_names_of_their_own() -> None:
    plan = SearchPlan("choices", {"blends": [1.0, 0.8], "alternatives": 2})
    search = SwapChoices(plan)
    trials = search.ask()
    assert [trial.id for trial in trials] == ["c1", "c2", "c3"]
    assert all(trial.swap is not None for trial in trials)
    assert list(search.ask()) == []


def test_a_card_names_what_is_unusual_about_a_recipe() -> None:
    assert Swap().words == "blend 100%"
    told = Swap(assignment=1, boost=512, restore=True, blend=0.8, shape=0.35).words
    assert told == "blend 80%, shape 35%, 512 px, restored, another face"


@pytest.mark.parametrize(
    "wrong",
    [
        {"face_boosts": (200,)},
        {"face_boosts": ()},
        {"face_boosts": (4096,)},
        {"face_blends": (1.5,)},
        {"face_blends": ()},
        {"face_shapes": (-1.0,)},
        {"face_alternatives": 0},
        {"face_engine": "magic"},
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="EACPS_FACE_"):
        load_settings(**wrong)
