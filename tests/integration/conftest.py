"""One Label Studio and one backend for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.labelstudio.label_config import label_config
from tests.label_studio_server import LabelStudioServer, label_studio_command
from tests.stack import Backend


@pytest.fixture(scope="session")
def server() -> Iterator[LabelStudioServer]:
    if label_studio_command() is None:
        pytest.skip("no Label Studio on this machine: `make .venv-label-studio/.ready`")
    with LabelStudioServer() as running:
        yield running


@pytest.fixture(scope="session")
def backend(server: LabelStudioServer) -> Iterator[Backend]:
    with Backend(server) as running:
        yield running


@pytest.fixture
def project(server: LabelStudioServer, backend: Backend) -> int:
    """A connected project."""
    number = server.create_project(label_config(), "End to end")
    backend.command("connect", "--project", str(number))
    return number
