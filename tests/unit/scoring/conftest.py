"""The demo pack's CLIP, and two scenes to judge."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from PIL import Image

from eacps.settings import Settings
from tests.unit.scoring.scoring_cases import bear

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The default settings, which use the demo pack."""
    return Settings(_env_file=None)


@pytest.fixture
def source() -> Image.Image:
    """An image of a bear."""
    return bear(1)
