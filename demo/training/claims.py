"""True and false claims about pictures, for training the scorer."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy
from numpy.typing import NDArray

from demo.training.data import Labels
from eacps.demo.bears import FIELDS, PARTS, Instruction
from eacps.demo.bears.language import (
    BACKGROUND_PHRASES,
    BODY_PHRASES,
    JOINT,
    addition,
    recolouring,
    removal,
)
from eacps.demo.bears.scene import BACKGROUNDS, BODY_COLOURS, ITEM_COLOURS, KINDS, NONE

COLUMN = {field: column for column, field in enumerate(FIELDS)}


def claim(attributes: Sequence[int], random: Random) -> Instruction:
    """An instruction that a picture satisfies, or, in half of the cases, misses in one detail."""
    count = 1 if random.random() < 0.65 else 2
    wrong = random.randrange(count) if random.random() < 0.5 else None
    parts = random.sample(PARTS, count)
    clauses = [
        _clause(part, attributes, index == wrong, random) for index, part in enumerate(parts)
    ]
    required = {field: value for clause in clauses for field, value in clause.required.items()}
    return Instruction(JOINT.join(clause.text for clause in clauses), required)


def satisfied(labels: Labels, instruction: Instruction) -> NDArray[numpy.bool_]:
    """Which pictures show everything that an instruction asks for."""
    result = numpy.ones(len(labels), numpy.bool_)
    for field, value in instruction.required.items():
        result &= labels[:, COLUMN[field]] == value
    return result


def _clause(part: str, attributes: Sequence[int], wrong: bool, random: Random) -> Instruction:
    if part in ("body", "background"):
        return _surface_clause(part, int(attributes[COLUMN[part]]), wrong, random)
    kind = int(attributes[COLUMN[f"{part}_kind"]])
    colour = int(attributes[COLUMN[f"{part}_colour"]])
    if wrong:
        kind, colour = _altered(part, kind, colour, random)
    if kind == NONE:
        return removal(part, random.randrange(1, len(KINDS[part])), random)
    draw = random.random()
    if draw < 0.25:
        return recolouring(part, kind, colour, random)
    named = wrong or draw < 0.8
    return addition(part, kind, colour if named else None, random)


def _surface_clause(part: str, kind: int, wrong: bool, random: Random) -> Instruction:
    names = BODY_COLOURS if part == "body" else BACKGROUNDS
    templates = BODY_PHRASES if part == "body" else BACKGROUND_PHRASES
    if wrong:
        kind = random.choice([other for other in range(len(names)) if other != kind])
    return Instruction(random.choice(templates).format(names[kind]), {part: kind})


def _altered(slot: str, kind: int, colour: int, random: Random) -> tuple[int, int]:
    if kind == NONE or random.random() < 0.25:
        other = random.choice([k for k in range(len(KINDS[slot])) if k != kind])
        return other, colour or random.randrange(1, 1 + len(ITEM_COLOURS))
    colours = range(1, 1 + len(ITEM_COLOURS))
    return kind, random.choice([other for other in colours if other != colour])
