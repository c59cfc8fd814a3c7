"""The oracle's network: reads every attribute of a scene from its picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from eacps.demo.bears import FIELD_SIZES, FIELDS

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Add the body's output to the features."""
        added: torch.Tensor = self.body(features)
        return torch.relu(features + added)


def _halving(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class AttributeClassifier(nn.Module):
    """A small residual network with one softmax per field."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _halving(3, 32),
            _halving(32, 64),
            Residual(64),
            _halving(64, 96),
            Residual(96),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(96 * 16, 256), nn.ReLU(), nn.Linear(256, sum(FIELD_SIZES))
        )

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits per field, in the order of FIELDS, for pictures in -1..1."""
        logits: torch.Tensor = self.head(self.features(pictures))
        return torch.split(logits, list(FIELD_SIZES), 1)


def save(network: AttributeClassifier, folder: Path) -> None:
    """Write the weights in half precision, and the fields that they classify."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)
    fields = dict(zip(FIELDS, FIELD_SIZES, strict=True))
    (folder / CONFIG).write_text(json.dumps({"fields": fields}, indent=2) + "\n")


def load(folder: Path) -> AttributeClassifier:
    """Load a trained network; raises ValueError if its fields differ."""
    fields = json.loads((folder / CONFIG).read_text())["fields"]
    if fields != dict(zip(FIELDS, FIELD_SIZES, strict=True)):
        raise ValueError(f"{folder / CONFIG} describes other fields than this domain has")
    network = AttributeClassifier()
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()
