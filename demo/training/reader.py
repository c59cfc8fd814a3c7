"""Reads attributes for the verifier and labels its training data, independent of the oracle.

Its own architecture, its own seed, its own renders.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from demo.tensors import to_tensor
from demo.training.attributes import fitted
from demo.training.autoencoder import Autoencoder
from demo.training.data import scenes
from demo.training.optimisation import Tick
from demo.training.recipe import VerifierRecipe
from eacps.demo.bears import FIELD_SIZES, FIELDS, Requirement
from eacps.demo.verifier.network import TraitReader

WEIGHTS: Final = "reader.safetensors"
WIDTHS: Final = (24, 48, 80, 112)
HIDDEN: Final = 192


def untrained() -> TraitReader:
    """An untrained reader of the bears' attributes, in the order of FIELDS."""
    return TraitReader(FIELD_SIZES, WIDTHS, HIDDEN)


def train_reader(
    recipe: VerifierRecipe, autoencoder: Autoencoder, folder: Path, tick: Tick
) -> dict[str, float]:
    """Train and write a reader; return its accuracy over all fields on new decoded renders."""
    network = fitted(untrained, recipe.reader, autoencoder, tick)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, folder / WEIGHTS
    )
    return {"accuracy": _accuracy(network, autoencoder, recipe)}


def load_reader(folder: Path) -> TraitReader:
    """Load a trained reader."""
    network = untrained()
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


@torch.no_grad()
def lowest(network: TraitReader, pictures: torch.Tensor, wanted: Requirement) -> torch.Tensor:
    """The lowest probability of any required field value, per picture."""
    shown = dict(zip(FIELDS, (logits.softmax(1) for logits in network(pictures)), strict=True))
    return torch.stack([shown[field][:, value] for field, value in wanted.items()]).amin(0)


@torch.no_grad()
def certainty(network: TraitReader, pictures: torch.Tensor) -> torch.Tensor:
    """The confidence of the least certain field, per picture."""
    sure = [logits.softmax(1).amax(1) for logits in network(pictures)]
    return torch.stack(sure).amin(0)


@torch.no_grad()
def _accuracy(network: TraitReader, autoencoder: Autoencoder, recipe: VerifierRecipe) -> float:
    pictures, labels = scenes(recipe.held_out, Random(recipe.held_out_seed))
    logits = network(autoencoder.shown(to_tensor(pictures)))
    guesses = torch.stack([each.argmax(1) for each in logits], 1)
    return (guesses == torch.from_numpy(labels)).float().mean().item()
