"""The web process of `eacps serve` on a free port, asked by sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from eacps.labelstudio.web.process import web_server
from eacps.settings import Settings
from tests.label_studio_server import free_port
from tests.patience import PATIENCE, wait_until

LONG = "3600"


class Server:
    """The web process of `eacps serve`, without workers."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", **environment: str) -> None:
        self.port = free_port()
        self._log = folder / "log"
        settings = Settings(_env_file=None, host=host, port=self.port)
        self.url = settings.resolved_public_url
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                web_server(settings).command,
                cwd=folder,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "EACPS_DATA_DIR": str(folder / "data"),
                    "EACPS_REQUEST_HEAD_SECONDS": LONG,
                    "EACPS_REQUEST_SECONDS": LONG,
                    "EACPS_PREDICT_WAIT_WITHOUT_LABEL_STUDIO": "0",
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        wait_until(self.is_up, self.log, forgiven=(requests.ConnectionError,))

    def is_up(self) -> bool:
        return requests.get(f"{self.url}/health", timeout=PATIENCE).ok

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def open(self, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        made = socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0)
        )
        made.sendall(data)
        return made

    def asked(self, data: bytes, source: str = "127.0.0.1") -> tuple[int, bytes]:
        """The status and the whole answer to these bytes, after which the client is silent."""
        with self.open(data, source) as made:
            return answer(made)


def answer(made: socket.socket) -> tuple[int, bytes]:
    whole = b""
    while data := made.recv(65_536):
        whole += data
    return int(whole.split(b" ", 2)[1]) if whole else 0, whole


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    server = Server(folder, **environment)
    try:
        yield server
    finally:
        server.stop()
