"""One EditTask in, one SearchResult out: ask the strategy, render or swap, score, rank."""

from eacps.runner.device import Device, open_device
from eacps.runner.inputs import finish, image_limits, load_images
from eacps.runner.judging import potential_range
from eacps.runner.loop import (
    Progress,
    RunBatches,
    batches,
    expected_trials,
    no_such_choice,
    ranked,
    search,
)

__all__ = [
    "Device",
    "Progress",
    "RunBatches",
    "batches",
    "expected_trials",
    "finish",
    "image_limits",
    "load_images",
    "no_such_choice",
    "open_device",
    "potential_range",
    "ranked",
    "search",
]
