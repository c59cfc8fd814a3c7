"""Trains networks that classify attributes of renders."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from demo.tensors import to_tensor
from demo.training.augmentation import softened
from demo.training.autoencoder import Autoencoder
from demo.training.data import scenes
from demo.training.optimisation import Tick, cosine, descend, set_learning_rate
from demo.training.recipe import Stage

Network = TypeVar("Network", bound=nn.Module)


def fitted(
    make: Callable[[], Network], stage: Stage, autoencoder: Autoencoder, tick: Tick
) -> Network:
    """Train a new network; its weights and renders depend on the stage's seed."""
    torch.manual_seed(stage.seed)
    generator, random = torch.Generator().manual_seed(stage.seed), Random(stage.seed)
    network = make().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), stage.learning_rate, weight_decay=0.02)
    for step in range(stage.steps):
        rate = stage.learning_rate * cosine(step, stage.steps, warmup=100, floor=0.01)
        set_learning_rate(optimiser, rate)
        pictures, labels = scenes(stage.batch, random)
        decode = autoencoder.noisy if random.random() < 0.5 else None
        views = softened(to_tensor(pictures), generator, decode)
        logits = network(views.contiguous(memory_format=torch.channels_last))
        truth = torch.from_numpy(labels).unbind(1)
        losses = [functional.cross_entropy(*pair) for pair in zip(logits, truth, strict=True)]
        descend(optimiser, torch.stack(losses).sum(), network.parameters(), clip=10.0)
        tick()
    return network.eval()
