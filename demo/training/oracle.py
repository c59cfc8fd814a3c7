"""Train the oracle's attribute classifier, from a seed and renders that nothing else sees."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from torch.nn import functional

from demo.attributes import AttributeClassifier, save
from demo.tensors import to_tensor
from demo.training.augmentation import softened
from demo.training.autoencoder import Autoencoder
from demo.training.data import scenes
from demo.training.optimisation import Tick, cosine, descend, set_learning_rate
from demo.training.recipe import Recipe

REPORT = dict[str, float]


def train_oracle(recipe: Recipe, autoencoder: Autoencoder, folder: Path, tick: Tick) -> REPORT:
    """Write a trained classifier; return its accuracy per field on scenes that it never saw."""
    stage = recipe.oracle
    torch.manual_seed(stage.seed)
    generator = torch.Generator().manual_seed(stage.seed)
    random = Random(stage.seed)
    network = AttributeClassifier().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), stage.learning_rate, weight_decay=0.02)
    for step in range(stage.steps):
        rate = stage.learning_rate * cosine(step, stage.steps, warmup=100, floor=0.01)
        set_learning_rate(optimiser, rate)
        pictures, labels = scenes(stage.batch, random)
        decode = autoencoder.noisy if random.random() < 0.5 else None
        softer = softened(to_tensor(pictures), generator, decode)
        logits = network(softer.contiguous(memory_format=torch.channels_last))
        truth = torch.from_numpy(labels).unbind(1)
        losses = [functional.cross_entropy(*pair) for pair in zip(logits, truth, strict=True)]
        descend(optimiser, torch.stack(losses).sum(), network.parameters(), clip=10.0)
        tick()
    network.eval()
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
