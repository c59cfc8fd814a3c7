"""Renders for training: endless single scenes, and pairs with their instructions."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy
from numpy.typing import NDArray

from eacps.demo.bears import FIELDS, SIZE, attributes, describe, random_edit, random_scene, render

Pictures = NDArray[numpy.uint8]
Labels = NDArray[numpy.int64]
Texts = tuple[tuple[str, ...], tuple[str, ...]]
"""Instructions from before to after, and back."""

SINGLE_EMPTINESS = (0.3, 0.5, 0.7)
PAIR_EMPTINESS = (0.45, 0.6, 0.75)
WORDINGS = 3


def scenes(count: int, random: Random) -> tuple[Pictures, Labels]:
    """Single scenes and their attributes."""
    pictures = numpy.zeros((count, SIZE, SIZE, 3), numpy.uint8)
    labels = numpy.zeros((count, len(FIELDS)), numpy.int64)
    for index in range(count):
        scene = random_scene(random, random.choice(SINGLE_EMPTINESS))
        pictures[index] = numpy.asarray(render(scene))
        labels[index] = attributes(scene)
    return pictures, labels


def pairs(count: int, random: Random) -> tuple[Pictures, list[Texts]]:
    """Scenes before and after an edit [count, 2, ...], with instructions in both directions."""
    pictures = numpy.zeros((count, 2, SIZE, SIZE, 3), numpy.uint8)
    texts: list[Texts] = []
    for index in range(count):
        before = random_scene(random, random.choice(PAIR_EMPTINESS))
        after = random_edit(before, random)
        pictures[index] = numpy.asarray(render(before)), numpy.asarray(render(after))
        there = tuple(describe(before, after, random).text for _ in range(WORDINGS))
        back = tuple(describe(after, before, random).text for _ in range(WORDINGS))
        texts.append((there, back))
    return pictures, texts


def pair_chunks(count: int, random: Random, size: int) -> Iterator[tuple[Pictures, list[Texts]]]:
    """`count` pairs in chunks, because all pictures do not fit into memory."""
    for start in range(0, count, size):
        yield pairs(min(size, count - start), random)
