"""Spans of several processes make one trace, and cost nothing when nobody wants them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eacps import log, tracing


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.use(SimpleSpanProcessor(exporter), "a test")
    yield exporter
    tracing.stop()


def test_another_process_continues_the_trace_with_its_ids(spans: InMemorySpanExporter) -> None:
    with log.ids(request="r1", project=3, task=41), tracing.span("request"):
        trace = tracing.carried()
    assert log.current_ids() == {}
    with tracing.continued(trace), log.ids(key="k"), tracing.span("search", trials=2):
        assert log.current_ids() == {"request": "r1", "project": "3", "task": "41", "key": "k"}
    first, second = spans.get_finished_spans()
    assert second.parent is not None
    assert first.context is not None
    assert second.parent.span_id == first.context.span_id
    assert second.attributes is not None
    assert dict(second.attributes) == {
        "eacps.request": "r1",
        "eacps.project": "3",
        "eacps.task": "41",
        "eacps.key": "k",
        "eacps.trials": 2,
    }
    assert second.resource.attributes["service.name"] == "eacps"


def test_a_failed_span_says_what_kind_of_error_but_not_its_message(
    spans: InMemorySpanExporter,
) -> None:
    with pytest.raises(RuntimeError), tracing.span("delivery"):
        raise RuntimeError("postgresql://eacps:s3cr3t@host/eacps")
    [failed] = spans.get_finished_spans()
    assert (failed.status.is_ok, failed.status.description) == (False, "RuntimeError")
    assert "s3cr3t" not in failed.to_json()


def test_what_a_row_says_of_a_parent_may_be_anything(spans: InMemorySpanExporter) -> None:
    with tracing.continued({"traceparent": "nonsense", "x": 1}), tracing.span("search"):
        pass
    [alone] = spans.get_finished_spans()
    assert alone.parent is None


def test_nothing_is_imported_or_carried_when_no_endpoint_is_set() -> None:
    script = """
import sys
from eacps import log, tracing
tracing.start("web")
with log.ids(request="r1"), tracing.span("request"):
    assert tracing.carried() == {"request": "r1"}
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )


def test_an_endpoint_without_the_extra_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    tracing.start("web")
    assert "pip install 'eacps[otel]'" in caplog.text
