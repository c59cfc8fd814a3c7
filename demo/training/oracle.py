"""Trains the oracle's attribute classifier, with its own seed and renders."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch

from demo.attributes import AttributeClassifier, save
from demo.tensors import to_tensor
from demo.training.attributes import fitted
from demo.training.autoencoder import Autoencoder
from demo.training.data import scenes
from demo.training.optimisation import Tick
from demo.training.recipe import Recipe

REPORT = dict[str, float]


def train_oracle(recipe: Recipe, autoencoder: Autoencoder, folder: Path, tick: Tick) -> REPORT:
    """Train and write a classifier; return its accuracy per field on unseen scenes."""
    network = fitted(AttributeClassifier, recipe.oracle, autoencoder, tick)
    save(network, folder)
    return _report(network, autoencoder, recipe)


def _report(network: AttributeClassifier, autoencoder: Autoencoder, recipe: Recipe) -> REPORT:
    pictures, labels = scenes(recipe.held_out, Random(recipe.held_out_seed + 1))
    clean = to_tensor(pictures)
    truth = torch.from_numpy(labels)
    views = {"clean": clean, "decoded": autoencoder.shown(clean)}
    return {name: _accuracy(network, view, truth) for name, view in views.items()}


@torch.no_grad()
def _accuracy(network: AttributeClassifier, pictures: torch.Tensor, truth: torch.Tensor) -> float:
    guesses = torch.stack([logits.argmax(1) for logits in network(pictures)], 1)
    return (guesses == truth).float().mean().item()
