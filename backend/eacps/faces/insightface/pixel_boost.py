"""Swapping at more than 128 pixels ("pixel boost"): splits the crop into images of 128 px with
every k-th pixel, swaps each of them, and interleaves the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eacps.faces.insightface.crops import SIDE
from eacps.faces.protocol import Field, Pixels


def split_tiles(crop: Pixels) -> list[Pixels]:
    """Split a crop of k x 128 px into k x k images of 128 px with every k-th pixel.

    >>> [tile.shape for tile in split_tiles(np.zeros((256, 256, 3), dtype=np.uint8))]
    [(128, 128, 3), (128, 128, 3), (128, 128, 3), (128, 128, 3)]
    """
    step = len(crop) // SIDE
    return [crop[down::step, across::step] for down in range(step) for across in range(step)]


def join_tiles(tiles: Sequence[Pixels]) -> Pixels:
    """The inverse of `split_tiles`."""
    step = round(len(tiles) ** 0.5)
    crop = np.empty((SIDE * step, SIDE * step, 3), dtype=np.uint8)
    for number, tile in enumerate(tiles):
        down, across = divmod(number, step)
        crop[down::step, across::step] = tile
    return crop


class BoostedSwapper:
    """InsightFace's INSwapper on crops of any multiple of 128 pixels."""

    def __init__(self, swapper: Any) -> None:
        self._swapper = swapper
        batches = [one.shape[0] for one in swapper.session.get_inputs()]
        # The published model has a fixed batch size of 1; exports with a dynamic one are faster.
        self._batched = not any(isinstance(size, int) for size in batches)

    def swapped(self, crop: Pixels, embedding: Field) -> Pixels:
        """Swap the face of an embedding into the crop."""
        latent = self._latent(embedding)
        images = np.stack(split_tiles(crop)).transpose(0, 3, 1, 2).astype(np.float32)
        if self._batched:
            results = self._swapper.forward(images, np.repeat(latent, len(images), axis=0))
        else:
            results = np.concatenate([self._swapper.forward(one[None], latent) for one in images])
        pixels = np.rint(results * 255).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return join_tiles(list(pixels))

    def _latent(self, embedding: Field) -> Field:
        latent = embedding.reshape(1, -1) @ self._swapper.emap
        return np.asarray(latent / np.linalg.norm(latent), dtype=np.float32)
