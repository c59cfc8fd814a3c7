"""Gunicorn settings that have no command-line option; `eacps serve` passes this file."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import Any

worker_class = "eacps.labelstudio.web.buffering_worker.BufferingWorker"
worker_connections = 500
# The main loop sends what threads write, so an answer must go through them.
sendfile = False
logger_class = "eacps.labelstudio.web.gunicorn_log.GunicornLogger"

_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def on_starting(server: Any) -> None:  # noqa: ARG001
    """Make the folder in which this server's processes share their metrics.

    prometheus_client looks for it when it is imported, which is after the fork, unless somebody
    preloads the app: then each process has numbers of its own.
    """
    if "prometheus_client" not in sys.modules:
        os.environ[_METRICS_FOLDER] = tempfile.mkdtemp(prefix="eacps-metrics-")
    else:
        os.environ.pop(_METRICS_FOLDER, None)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """A process has ended: its counts stay, but its connections are closed."""
    folder = os.environ.get(_METRICS_FOLDER)
    if folder:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid, folder)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:  # noqa: ARG001
    """Remove the folder."""
    if folder := os.environ.get(_METRICS_FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
