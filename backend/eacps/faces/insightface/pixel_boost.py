"""Swapping at more than 128 pixels: the crop is taken apart into 128 px images that each hold
every k-th pixel, all are swapped, and what comes out is put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eacps.faces.insightface.crops import SIDE
from eacps.faces.protocol import Field, Pixels


def taken_apart(crop: Pixels) -> list[Pixels]:
    """Images of 128 px that hold every k-th pixel of a crop of k x 128, each from another start.

    >>> [tile.shape for tile in taken_apart(np.zeros((256, 256, 3), dtype=np.uint8))]
    [(128, 128, 3), (128, 128, 3), (128, 128, 3), (128, 128, 3)]
    """
    step = len(crop) // SIDE
    return [crop[down::step, across::step] for down in range(step) for across in range(step)]


def put_together(tiles: Sequence[Pixels]) -> Pixels:
    """The crop that was taken apart."""
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
        # The published model has a fixed batch of one; exports with a free one save time.
        self._batched = not any(isinstance(size, int) for size in batches)

    def swapped(self, crop: Pixels, embedding: Field) -> Pixels:
        """The crop with the face of an embedding, otherwise as it was."""
        latent = self._latent(embedding)
        images = np.stack(taken_apart(crop)).transpose(0, 3, 1, 2).astype(np.float32)
        if self._batched:
            results = self._swapper.forward(images, np.repeat(latent, len(images), axis=0))
        else:
            results = np.concatenate([self._swapper.forward(one[None], latent) for one in images])
        pixels = np.rint(results * 255).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return put_together(list(pixels))

    def _latent(self, embedding: Field) -> Field:
        latent = embedding.reshape(1, -1) @ self._swapper.emap
        return np.asarray(latent / np.linalg.norm(latent), dtype=np.float32)
