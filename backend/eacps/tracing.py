"""Spans for OpenTelemetry, and the ids that a job takes from process to process.

Without the extra `otel` and an endpoint in the environment, nothing of OpenTelemetry is imported
and a span does nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from eacps import log

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

logger = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PARENT: Final = "traceparent"
_CARRIED: Final = ("request", "project", "task", "job")
_FLUSH_SECONDS: Final = 3.0
_NOTHING: Final = nullcontext()


class _State:
    provider: TracerProvider | None = None
    tracer: Any = None


def start(process: str) -> None:
    """Export spans of this process if the environment names an OTLP endpoint."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning(
            "%s is set, but no spans are sent: run `pip install 'eacps[otel]'`, or unset it.",
            next(name for name in ENDPOINTS if os.environ.get(name)),
        )
        return
    use(BatchSpanProcessor(OTLPSpanExporter()), process)


def use(processor: SpanProcessor, process: str) -> None:
    """Give the spans of this process to a processor."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    name = {} if named else {"service.name": "eacps"}
    resource = Resource.create({**name, "eacps.process": process})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    # Not the global provider, which belongs to whoever embeds this package.
    _State.provider, _State.tracer = provider, provider.get_tracer("eacps")
    atexit.register(stop)


def stop() -> None:
    """Send the spans that are left, and no more."""
    provider, _State.provider, _State.tracer = _State.provider, None, None
    if provider is not None:
        # In a thread, because an exporter whose collector is away takes its time.
        last = threading.Thread(target=provider.force_flush, daemon=True)
        last.start()
        last.join(_FLUSH_SECONDS)


def span(name: str, **attributes: str | float) -> AbstractContextManager[None]:
    """A span around the block, with the ids of its log lines."""
    return _recorded(name, attributes) if _State.tracer else _NOTHING


def carried() -> dict[str, str]:
    """The current ids and span, for work that another process continues."""
    known = log.current_ids()
    ids = {name: known[name] for name in _CARRIED if name in known}
    if _State.tracer:
        _propagator().inject(ids)
    return ids


@contextmanager
def continued(trace: Mapping[str, Any]) -> Iterator[None]:
    """Continue what another process began, with what it got from `carried`."""
    with log.ids(**{name: trace.get(name) for name in _CARRIED}), _child_of(trace.get(PARENT)):
        yield


@contextmanager
def _recorded(name: str, attributes: Mapping[str, str | float]) -> Iterator[None]:
    from opentelemetry.trace import Status, StatusCode

    ids = {f"eacps.{each}": value for each, value in log.current_ids().items()}
    own = {f"eacps.{each}": value for each, value in attributes.items()}
    with _State.tracer.start_as_current_span(
        name, attributes={**ids, **own}, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield
        except BaseException as error:
            # Only the type: messages may hold hosts and secrets.
            made.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@contextmanager
def _child_of(parent: str | None) -> Iterator[None]:
    if not parent or not _State.tracer:
        yield
        return
    from opentelemetry import context

    token = context.attach(_propagator().extract({PARENT: parent}))
    try:
        yield
    finally:
        context.detach(token)


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
