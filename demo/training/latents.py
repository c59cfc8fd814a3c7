"""The editor's training set: pairs as latents, instructions as token ids, in two files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from demo.tensors import to_tensor
from demo.training.autoencoder import CHANNELS, LATENT_SIZE, Autoencoder
from demo.training.data import WORDINGS, pair_chunks
from demo.training.optimisation import Tick
from demo.training.recipe import Recipe
from demo.training.tokenizer import CONTEXT, token_ids

CHUNK: Final = 32


def write_latents(
    recipe: Recipe, autoencoder: Autoencoder, tokenizer: Any, folder: Path, tick: Tick
) -> None:
    """Render, encode and tokenise the recipe's pairs, a chunk at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (recipe.pairs, 2, CHANNELS, LATENT_SIZE, LATENT_SIZE)
    latents = npy.open_memmap(  # type: ignore[no-untyped-call]
        folder / "latents.npy", "w+", numpy.float16, shape
    )
    ids = npy.open_memmap(  # type: ignore[no-untyped-call]
        folder / "ids.npy", "w+", numpy.int16, (recipe.pairs, 2, WORDINGS, CONTEXT)
    )
    start = 0
    for pictures, texts in pair_chunks(recipe.pairs, Random(recipe.pairs_seed), CHUNK):
        end = start + len(texts)
        encoded = autoencoder.encoded(to_tensor(pictures.reshape(-1, *pictures.shape[2:])))
        latents[start:end] = encoded.numpy().reshape(-1, *shape[1:])
        flat = [text for both in texts for way in both for text in way]
        ids[start:end] = token_ids(tokenizer, flat).reshape(-1, *ids.shape[1:])
        start = end
        tick()
    latents.flush()
    ids.flush()


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents of sources and of their edits, and the token ids of the instructions."""

    source: torch.Tensor
    target: torch.Tensor
    ids: torch.Tensor


def batches(folder: Path, size: int, seed: int) -> Callable[[], Batch]:
    """A function that draws batches of pairs in both directions with random wordings."""
    latents: NDArray[numpy.float16] = numpy.load(folder / "latents.npy", mmap_mode="r")
    ids: NDArray[numpy.int16] = numpy.load(folder / "ids.npy", mmap_mode="r")
    random = numpy.random.default_rng(seed)

    def draw() -> Batch:
        pair = random.integers(0, len(latents), size)
        way = random.integers(0, 2, size)
        wording = random.integers(0, ids.shape[2], size)
        return Batch(
            source=torch.from_numpy(latents[pair, way]).float(),
            target=torch.from_numpy(latents[pair, 1 - way]).float(),
            ids=torch.from_numpy(ids[pair, way, wording]).long(),
        )

    return draw
