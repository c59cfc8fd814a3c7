"""One Label Studio and one backend for all end-to-end tests of a run."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Whoever was started in the background ignores Ctrl-C, and so do its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from tests.label_studio_server import LabelStudioServer
    from tests.stack import Backend


@pytest.fixture(autouse=True)
def logging_stays() -> Iterator[None]:
    """Commands that run in this process set the level of all logs, and where they go."""
    root = logging.getLogger()
    level, before = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers) - set(before):
        # Those of pytest come and go with each phase of a test.
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def server() -> Iterator[LabelStudioServer]:
    from tests.label_studio_server import LabelStudioServer, label_studio_command

    if label_studio_command() is None:
        pytest.skip("no Label Studio on this machine: `make .venv-label-studio/.ready`")
    with LabelStudioServer() as running:
        yield running


@pytest.fixture(scope="session")
def backend(server: LabelStudioServer) -> Iterator[Backend]:
    from tests.stack import Backend

    with Backend(server) as running:
        yield running


@pytest.fixture(scope="session")
def face_models() -> None:
    """The files of engine `basic`, where the product looks for them."""
    from eacps.faces.download import fetch_models
    from eacps.settings import FACE_MODELS

    fetch_models(FACE_MODELS, print)


@pytest.fixture
def project(server: LabelStudioServer, backend: Backend) -> int:
    """A project that is connected to the shared backend."""
    from tests.stack import connected_project

    return connected_project(server, backend)
