from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eacps.domain import SearchResult
from eacps.settings import Settings
from tests.unit.labelstudio.support import FIXTURES, Queue, make_result


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=tmp_path,
        label_studio_url="http://label-studio.example:8080",
        label_studio_api_key=SecretStr("a" * 40),
        predict_wait_seconds=0,
    )


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path, predict_wait_without_label_studio=0)


@pytest.fixture
def recorded() -> Callable[[str], Any]:
    """A request that Label Studio 1.23.2 really sent."""
    return lambda name: json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.fixture
def result() -> SearchResult:
    return make_result()
