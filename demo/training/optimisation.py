"""Shared by all training loops: learning-rate schedules, steps, and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch

Tick = Callable[[], None]
"""Called once per step, to move a progress bar."""


def cosine(step: int, steps: int, *, warmup: int, floor: float, hold: float = 0.0) -> float:
    """Warm up, hold the peak for a share of the steps, then fall along a cosine to the floor."""
    share = max(0.0, (step / steps - hold) / (1 - hold))
    fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
    return min(1.0, (step + 1) / warmup) * fall


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def descend(
    optimiser: torch.optim.Optimizer,
    loss: torch.Tensor,
    parameters: Iterable[torch.nn.Parameter],
    clip: float = 1.0,
) -> None:
    """Take an optimiser step with a clipped gradient."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step()


class MovingAverage:
    """An exponential moving average of weights, which is saved."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._average = [parameter.detach().clone() for parameter in parameters]
        self._decay, self._updates = decay, 0

    def update(self) -> None:
        """Update the average, faster at the beginning."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        current = [parameter.detach() for parameter in self._parameters]
        torch._foreach_lerp_(self._average, current, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Swap weights and average."""
        for parameter, average in zip(self._parameters, self._average, strict=True):
            current = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(current)
