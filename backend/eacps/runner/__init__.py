"""Runs the search of a task: ask the strategy, render or swap, score, rank."""

from eacps.runner.device import Device, open_device
from eacps.runner.inputs import finish, image_limits, load_images
from eacps.runner.loop import (
    Progress,
    RunBatches,
    batches,
    expected_trials,
    no_such_choice,
    ranked,
    search,
)
from eacps.runner.pictures import Picture, PictureIndex, PicturesInMemory
from eacps.runner.potentials import potential_of, potential_range

__all__ = [
    "Device",
    "Picture",
    "PictureIndex",
    "PicturesInMemory",
    "Progress",
    "RunBatches",
    "batches",
    "expected_trials",
    "finish",
    "image_limits",
    "load_images",
    "no_such_choice",
    "open_device",
    "potential_of",
    "potential_range",
    "ranked",
    "search",
]
