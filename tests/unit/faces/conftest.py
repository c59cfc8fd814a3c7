"""InsightFace's real classes on synthetic models, shared by the tests of faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eacps.faces.protocol import FaceEngine
from eacps.faces.registry import open_engine
from eacps.settings import Settings, load_settings
from tests import synthetic_face_models


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as InsightFace's users have it, with synthetic models."""
    return synthetic_face_models.build(tmp_path_factory.mktemp("insightface"))


@pytest.fixture(scope="session")
def synthetic_settings(synthetic_root: Path) -> Callable[..., Settings]:
    """Settings that use those models; more settings may be given."""

    def settings(**more: Any) -> Settings:
        return load_settings(
            **{
                "insightface_root": synthetic_root,
                "insightface_pack": "synthetic",
                "inswapper": "swapper.onnx",
                "face_license_accepted": True,
                "face_engine": "insightface",
                "threads": 1,
                **more,
            }
        )

    return settings


@pytest.fixture(scope="session")
def engine(synthetic_settings: Callable[..., Settings]) -> FaceEngine:
    """The engine on those models."""
    return open_engine(synthetic_settings(), "cpu").engine
