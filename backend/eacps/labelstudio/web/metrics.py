"""Prometheus metrics of the web process: its requests, and what the jobs database says of all.

docs/observability.md lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flask import Response
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

import eacps
from eacps.jobs.contract import STATES, Delays, JobState, WorkerStatus
from eacps.labelstudio.web.answered import Answered

if TYPE_CHECKING:
    from eacps.labelstudio.web.ml_model import Services

MULTIPROCESS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with the folder in which gunicorn's processes share their metrics."""
_OWN: Final = "eacps_http_"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)

REQUESTS: Final = Counter(
    "eacps_http_requests", "Requests that were answered.", ["route", "method", "status"]
)
REQUEST_SECONDS: Final = Histogram(
    "eacps_http_request_seconds", "Seconds to answer a request.", ["route"], buckets=_SECONDS
)
REFUSALS: Final = Counter(
    "eacps_http_refusals",
    "Requests that were refused before they had arrived, by the code of the error.",
    ["code"],
)
CONNECTIONS: Final = Gauge(
    "eacps_http_connections", "Open connections.", multiprocess_mode="livesum"
)

FLEET: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "eacps_build_info": ("1, with the versions as labels.", ("version", "model_version")),
    "eacps_database_up": ("1 if the jobs database answered in time, else 0.", ()),
    "eacps_jobs": ("Jobs that are kept, by state.", ("state",)),
    "eacps_oldest_queued_job_seconds": ("Age of the oldest queued job; 0: none.", ()),
    "eacps_oldest_delivery_seconds": (
        "Age of the oldest delivery that has not ended; 0: none.",
        (),
    ),
    "eacps_jobs_retrying": ("Jobs that wait to be tried again, by what failed.", ("step",)),
    "eacps_processes": ("Live orchestrators and workers.", ("role",)),
    "eacps_workers_ready": ("Live workers with the models of the current settings.", ()),
    "eacps_processes_in_outage": (
        "Orchestrators and workers that wait for an outage to end.",
        (),
    ),
    "eacps_batches_without_worker": (
        "Batches that no live worker can run, because none has loaded their models.",
        (),
    ),
}
"""Names of what the jobs database says, with their descriptions and labels."""


@dataclass(frozen=True)
class _Facts:
    counts: Mapping[JobState, int]
    delays: Delays
    workers: tuple[WorkerStatus, ...]
    waiting: int


class FleetCollector(Collector):
    """What the jobs database says of the fleet. It does not matter which web process is asked."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._facts = Answered(self._ask)

    def _ask(self) -> _Facts:
        jobs = self._services.jobs
        return _Facts(
            counts=jobs.counts(),
            delays=jobs.delays(),
            workers=tuple(jobs.workers()),
            waiting=sum(each.count for each in jobs.waiting()),
        )

    def describe(self) -> Iterator[Metric]:
        """No metrics, so that registering this asks nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of FLEET; only the first two if the database does not answer."""
        settings = self._services.settings
        yield _family("eacps_build_info", {(eacps.__version__, settings.model_version): 1.0})
        try:
            facts = self._facts.answer()
        except Exception:
            yield _family("eacps_database_up", {(): 0.0})
            return
        yield _family("eacps_database_up", {(): 1.0})
        yield from _families(facts, settings.equipment)


def _families(facts: _Facts, equipment: str) -> Iterator[Metric]:
    delays, workers = facts.delays, facts.workers
    roles = [worker.role for worker in workers]
    ready = [each for each in workers if each.role == "worker" and each.equipment == equipment]
    samples: dict[str, dict[tuple[str, ...], float]] = {
        "eacps_jobs": {(state,): facts.counts.get(state, 0) for state in STATES},
        "eacps_oldest_queued_job_seconds": {(): delays.oldest_queued},
        "eacps_oldest_delivery_seconds": {(): delays.oldest_delivery},
        "eacps_jobs_retrying": {(step,): count for step, count in delays.retrying.items()},
        "eacps_processes": {(role,): roles.count(role) for role in ("orchestrator", "worker")},
        "eacps_workers_ready": {(): len(ready)},
        "eacps_processes_in_outage": {(): sum(bool(worker.note) for worker in workers)},
        "eacps_batches_without_worker": {(): facts.waiting},
    }
    for name, values in samples.items():
        yield _family(name, values)


def _family(name: str, values: Mapping[tuple[str, ...], float]) -> Metric:
    description, labels = FLEET[name]
    family = GaugeMetricFamily(name, description, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


class _OwnCollector(Collector):
    """The metrics of all processes of this web server, and none of what they merely import."""

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        folder = os.environ.get(MULTIPROCESS_FOLDER)
        # mypy: this class of prometheus_client has no types.
        shared = MultiProcessCollector(None, folder) if folder else REGISTRY  # type: ignore[no-untyped-call]
        for metric in shared.collect():
            if metric.name.startswith(_OWN):
                yield metric


def new_registry(services: Services) -> CollectorRegistry:
    """What /metrics shows."""
    registry = CollectorRegistry()
    registry.register(_OwnCollector())
    registry.register(FleetCollector(services))
    return registry


def metrics_page(registry: CollectorRegistry, accepted: str) -> Response:
    """All metrics in the format that the client prefers."""
    encode, kind = choose_encoder(accepted)
    return Response(encode(registry), content_type=kind)
