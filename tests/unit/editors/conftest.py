"""Tiny editors of every family, built once; and the demo pack's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from eacps.editors.diffusers.editor import DiffusersEditor
from eacps.settings import Settings
from tests.tiny_pipelines import BUILDERS, build
from tests.unit.editors.editor_cases import SIDE, opened, tiny_settings

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder per family, as save_pretrained writes it."""
    root = tmp_path_factory.mktemp("pipelines")
    return {name: build(name, root / name) for name in BUILDERS}


@pytest.fixture(scope="session", autouse=True)
def _small_references() -> Iterator[None]:
    """The Qwen pipelines always enlarge pictures to a million pixels."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as edit
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as plus

    with pytest.MonkeyPatch.context() as patch:
        calculate = edit.calculate_dimensions
        patch.setattr(edit, "calculate_dimensions", lambda _, ratio: calculate(SIDE**2, ratio))
        patch.setattr(plus, "CONDITION_IMAGE_SIZE", 56**2)
        patch.setattr(plus, "VAE_IMAGE_SIZE", SIDE**2)
        yield


@pytest.fixture(scope="session")
def editors(folders: dict[str, Path]) -> dict[str, DiffusersEditor]:
    """An editor per family."""
    return {name: opened(tiny_settings(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def demo() -> DiffusersEditor:
    """The demo pack's editor."""
    return opened(Settings(_env_file=None))
