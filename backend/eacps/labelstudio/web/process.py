"""The web server as a supervised process of `eacps serve`."""

from __future__ import annotations

import socket
import sys

from eacps.errors import SettingsError
from eacps.jobs.supervisor import Process
from eacps.settings import Settings


def web_server(settings: Settings) -> Process:
    """Gunicorn with the app of `wsgi.py`, on the address from the settings."""
    command = [
        sys.executable, "-m", "gunicorn", "--threads", "16",
        "--bind", settings.bind_address, "--timeout", "120", "--no-control-socket",
        "--config", "python:eacps.labelstudio.web.gunicorn_config",
        "eacps.labelstudio.web.wsgi:web_process()",
    ]  # fmt: skip
    return Process("web", command, drains=False)


def require_free_port(settings: Settings) -> None:
    """Raise SettingsError if the web server's address is in use."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        # As in gunicorn, so that the port of a server that just exited counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"The web server cannot use {settings.bind_address}: {error.strerror or error}.",
                hint="Stop the program that uses it (another `eacps serve`?), or change EACPS_PORT "
                "or EACPS_HOST.",
            ) from None
