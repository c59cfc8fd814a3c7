"""Procedural 64 px teddy bears, edits of them, and their instructions."""

from eacps.demo.bears.canvas import SIZE
from eacps.demo.bears.drawing import render
from eacps.demo.bears.language import Instruction, Requirement, describe, parse
from eacps.demo.bears.scene import (
    FIELD_SIZES,
    FIELDS,
    PARTS,
    SLOTS,
    Scene,
    attributes,
    changed_parts,
    random_edit,
    random_scene,
)

__all__ = [
    "FIELDS",
    "FIELD_SIZES",
    "PARTS",
    "SIZE",
    "SLOTS",
    "Instruction",
    "Requirement",
    "Scene",
    "attributes",
    "changed_parts",
    "describe",
    "parse",
    "random_edit",
    "random_scene",
    "render",
]
