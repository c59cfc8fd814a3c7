"""The grammar of instructions: describes edits as sentences, and parses sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from types import MappingProxyType
from typing import Final

from eacps.demo.bears.scene import (
    BACKGROUNDS,
    BODY_COLOURS,
    ITEM_COLOURS,
    KINDS,
    NONE,
    PARTS,
    SLOTS,
    Scene,
    changed_parts,
)

Requirement = Mapping[str, int]
"""The value that each field must have after the edit."""

BODY_PHRASES: Final = (
    "make the bear {}",
    "turn the bear {}",
    "change the bear colour to {}",
)
BACKGROUND_PHRASES: Final = ("make the background {}", "change the background to {}")
REMOVE_PHRASES: Final = ("remove the {}", "take off the {}", "delete the {}")
RECOLOUR_PHRASES: Final = ("make the {} {}", "change the {} to {}")
JOINT: Final = " and "


@dataclass(frozen=True, slots=True)
class Instruction:
    """A sentence and the field values that it requires."""

    text: str
    required: Requirement


def add_phrases(slot: str) -> tuple[str, str, str]:
    """Phrases for adding an item to a slot."""
    third = "let the bear hold {}" if slot == "hand" else "put {} on the bear"
    return "add {}", "give the bear {}", third


def with_article(name: str) -> str:
    """`a hat`, but `sunglasses`."""
    return name if name.endswith("sunglasses") else f"a {name}"


def describe(
    before: Scene, after: Scene, random: Random, colour_chance: float = 0.7
) -> Instruction:
    """A random sentence for the change from one scene to another."""
    parts = changed_parts(before, after)
    random.shuffle(parts)
    clauses = [_clause(part, before, after, random, colour_chance) for part in parts]
    required = {field: value for clause in clauses for field, value in clause.required.items()}
    return Instruction(JOINT.join(clause.text for clause in clauses), MappingProxyType(required))


def _clause(
    part: str, before: Scene, after: Scene, random: Random, colour_chance: float
) -> Instruction:
    kind, colour = after.state(part)
    if part == "body":
        return Instruction(random.choice(BODY_PHRASES).format(BODY_COLOURS[kind]), {part: kind})
    if part == "background":
        text = random.choice(BACKGROUND_PHRASES).format(BACKGROUNDS[kind])
        return Instruction(text, {part: kind})
    old_kind, _ = before.state(part)
    if kind == NONE:
        return removal(part, old_kind, random)
    if kind == old_kind:
        return recolouring(part, kind, colour, random)
    named = random.random() < colour_chance
    return addition(part, kind, colour if named else None, random)


def removal(slot: str, kind: int, random: Random) -> Instruction:
    """A clause that removes an item."""
    text = random.choice(REMOVE_PHRASES).format(KINDS[slot][kind])
    return Instruction(text, {f"{slot}_kind": NONE})


def recolouring(slot: str, kind: int, colour: int, random: Random) -> Instruction:
    """A clause that changes the colour of an item."""
    text = random.choice(RECOLOUR_PHRASES).format(KINDS[slot][kind], ITEM_COLOURS[colour - 1])
    return Instruction(text, {f"{slot}_kind": kind, f"{slot}_colour": colour})


def addition(slot: str, kind: int, colour: int | None, random: Random) -> Instruction:
    """A clause that adds an item, of any colour if none is given."""
    name, required = KINDS[slot][kind], {f"{slot}_kind": kind}
    if colour is not None:
        name = f"{ITEM_COLOURS[colour - 1]} {name}"
        required[f"{slot}_colour"] = colour
    text = random.choice(add_phrases(slot)).format(with_article(name))
    return Instruction(text, required)


def parse(text: str) -> Requirement:
    """Parse a sentence; raises ValueError for a clause outside of the grammar."""
    required: dict[str, int] = {}
    for clause in text.split(JOINT):
        if clause not in phrases():
            raise ValueError(f"{clause!r} is not a clause of the bear grammar")
        required.update(phrases()[clause])
    return required


@cache
def phrases() -> Mapping[str, Requirement]:
    """All clauses of the grammar with their requirements."""
    return MappingProxyType({text: required for part in PARTS for text, required in _all(part)})


def _all(part: str) -> Iterator[tuple[str, Requirement]]:
    if part in SLOTS:
        yield from _all_of_slot(part)
        return
    names = BODY_COLOURS if part == "body" else BACKGROUNDS
    templates = BODY_PHRASES if part == "body" else BACKGROUND_PHRASES
    for kind, name in enumerate(names):
        for template in templates:
            yield template.format(name), {part: kind}


def _all_of_slot(slot: str) -> Iterator[tuple[str, Requirement]]:
    for kind, name in enumerate(KINDS[slot][1:], start=1):
        this_kind = {f"{slot}_kind": kind}
        for template in REMOVE_PHRASES:
            yield template.format(name), {f"{slot}_kind": NONE}
        for template in add_phrases(slot):
            yield template.format(with_article(name)), this_kind
        for colour, shade in enumerate(ITEM_COLOURS, start=1):
            this_item = {**this_kind, f"{slot}_colour": colour}
            for template in RECOLOUR_PHRASES:
                yield template.format(name, shade), this_item
            for template in add_phrases(slot):
                yield template.format(with_article(f"{shade} {name}")), this_item
