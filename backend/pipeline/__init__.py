"""One EditTask in, one SearchResult out: ask the strategy, render or swap, score, rank."""

from backend.pipeline.device import Device, open_device
from backend.pipeline.inputs import finish, image_limits, load_images
from backend.pipeline.judging import potential_range
from backend.pipeline.search import (
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
