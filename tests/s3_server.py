"""An S3 server of our own, as a process that tests can kill: that of moto."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from s3fs import S3FileSystem

from tests.patience import wait_until

BUCKET = "pictures"


class S3Server:
    """A server with one bucket. It keeps everything in memory, so a kill loses all files."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "s3.log"
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.url = f"s3://{BUCKET}/eacps"
        self.variables = {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def client(self) -> Any:
        """boto3's client for it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="tests",
            aws_secret_access_key="tests-secret",
            region_name="us-east-1",
        )

    def start(self, *, with_bucket: bool = True) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, self._log.read_text)
        if with_bucket:
            self.client.create_bucket(Bucket=BUCKET)

    def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it answer nothing, and keep its connections."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def names(self) -> list[str]:
        """The keys of all its objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._port)) == 0


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A running server."""
    server = S3Server(folder)
    # A connection to the server of an earlier test is kept by the bucket's name alone.
    S3FileSystem.clear_instance_cache()
    try:
        yield server
    finally:
        server.kill()
