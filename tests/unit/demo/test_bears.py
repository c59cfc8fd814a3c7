from __future__ import annotations

import hashlib
from random import Random

import numpy
import pytest

from eacps.demo.bears import (
    FIELD_SIZES,
    PARTS,
    Instruction,
    Scene,
    attributes,
    changed_parts,
    describe,
    parse,
    random_edit,
    random_scene,
    render,
)

GOLDEN = (
    (0, "make the background night", "82f55b0f56bd90ba"),
    (1, "put a blue scarf on the bear and change the background to plain", "d32f42645920997b"),
    (3, "add a yellow crown", "9965b19e8064faaa"),
    (
        5,
        "change the background to plain and change the sunglasses to purple and add a party hat",
        "6bf6c2b680df3afc",
    ),
    (8, "make the bear gray and add a green top hat and remove the balloon", "78d87c97bdca6032"),
    (13, "delete the top hat and change the bow tie to blue", "34ae028cc5a8e844"),
    (21, "change the bear colour to green", "d05365a8519d339b"),
    (34, "give the bear a yellow flower and make the background night", "ae80fef74186eef4"),
    (55, "change the background to forest and add black sunglasses", "2f3cef502171c8cc"),
)


def _scene(seed: int) -> tuple[Scene, Scene, Instruction]:
    random = Random(seed)
    before = random_scene(random)
    after = random_edit(before, random, operations=1 + seed % 3)
    return before, after, describe(before, after, random)


@pytest.mark.parametrize(("seed", "text", "picture"), GOLDEN)
def test_the_world_is_the_one_the_weights_were_trained_on(
    seed: int, text: str, picture: str
) -> None:
    _, after, instruction = _scene(seed)
    assert instruction.text == text
    assert hashlib.sha256(render(after).tobytes()).hexdigest()[:16] == picture


@pytest.mark.parametrize("seed", range(0, 200, 7))
def test_an_instruction_parses_back_to_what_it_asks_for(seed: int) -> None:
    _, _, instruction = _scene(seed)
    assert parse(instruction.text) == instruction.required


def test_a_sentence_outside_the_grammar_is_named() -> None:
    with pytest.raises(ValueError, match="dance"):
        parse("make the bear pink and let it dance")


@pytest.mark.parametrize("seed", range(20))
def test_an_edit_changes_as_many_parts_as_asked_and_keeps_the_rest(seed: int) -> None:
    before, after, _ = _scene(seed)
    changed = changed_parts(before, after)
    assert len(changed) == 1 + seed % 3
    kept = set(PARTS) - set(changed)
    assert {part: exactly(after, part) for part in kept} == {
        part: exactly(before, part) for part in kept
    }
    assert after.pose == before.pose


def exactly(scene: Scene, part: str) -> object:
    """A part with its shade and its place, which no instruction names."""
    return scene.items[part] if part in scene.items else getattr(scene, part)


def test_attributes_fit_their_fields() -> None:
    scenes = [random_scene(Random(seed)) for seed in range(50)]
    assert all(
        value < size
        for scene in scenes
        for value, size in zip(attributes(scene), FIELD_SIZES, strict=True)
    )


def test_a_new_scarf_leaves_the_top_of_the_picture_alone() -> None:
    before, after, _ = _scene(18)
    assert changed_parts(before, after) == ["neck"]
    old, new = numpy.asarray(render(before)), numpy.asarray(render(after))
    assert (old != new).any()
    assert (old[:20] == new[:20]).all()
