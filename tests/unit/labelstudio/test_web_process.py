"""The web server's process: its address, what it serves, and a port that is taken."""

from __future__ import annotations

import importlib
import re
import socket

import pytest

from eacps.errors import SettingsError
from eacps.labelstudio.web.process import require_free_port, web_server
from eacps.settings import Settings


def test_gunicorn_binds_the_address_of_the_settings() -> None:
    process = web_server(Settings(_env_file=None, host="0.0.0.0", port=8123))
    assert process.name == "web"
    assert process.command[process.command.index("--bind") + 1] == "0.0.0.0:8123"


def test_what_gunicorn_is_told_to_load_exists() -> None:
    command = web_server(Settings(_env_file=None)).command
    config = command[command.index("--config") + 1].removeprefix("python:")
    assert importlib.import_module(config)
    target = re.fullmatch(r"([\w.]+):(\w+)\(\)", command[-1])
    assert target, command[-1]
    assert callable(getattr(importlib.import_module(target[1]), target[2]))


def test_a_taken_port_is_refused_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(_env_file=None, port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="EACPS_PORT"):
            require_free_port(settings)
    require_free_port(settings)
