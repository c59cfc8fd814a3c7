"""What orchestrators and workers show of themselves: their metrics on a port, and their spans."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import REGISTRY, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from eacps import tracing
from eacps.editors.devices import memory_in_use
from eacps.settings import Settings

log = logging.getLogger(__name__)

MEMORY = ("eacps_device_memory_bytes", "Memory of the GPU in bytes, by kind.")


def start_observing(settings: Settings, process: str, *, slot: int | None = None) -> None:
    """Serve this process's metrics if EACPS_METRICS_PORT is set, and start its tracing.

    The orchestrator uses the port itself, the worker with slot N the port + 1 + N.
    """
    tracing.start(process)
    if not settings.metrics_port:
        return
    port = settings.metrics_port + (0 if slot is None else 1 + slot)
    # When each series began is of no interest, and doubles their number.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        start_http_server(port, settings.metrics_host, REGISTRY)
    except (OSError, OverflowError) as error:
        # No reason to leave work undone.
        log.error(  # noqa: TRY400
            "no metrics of this process: %s:%d cannot be used (%s). Change EACPS_METRICS_PORT or "
            "EACPS_METRICS_HOST.",
            settings.metrics_host,
            port,
            getattr(error, "strerror", None) or error,
        )
        return
    log.info("metrics on http://%s:%d/metrics", settings.metrics_host, port)


class DeviceMemory(Collector):
    """The memory of one GPU, asked for at each scrape."""

    def __init__(self, device: str) -> None:
        self._device = device

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample per kind; none for a CPU."""
        family = GaugeMetricFamily(*MEMORY, labels=["device", "kind"])
        for kind, size in memory_in_use(self._device).items():
            family.add_metric([self._device, kind], size)
        yield family


def watch_memory(device: str) -> None:
    """Add the device's memory to the metrics of this process."""
    REGISTRY.register(DeviceMemory(device))
