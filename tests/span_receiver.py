"""A little collector of OpenTelemetry spans: OTLP over HTTP, on a free port."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """A span with the process that sent it."""

    name: str
    process: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


@dataclass
class SpanReceiver:
    """What was received so far, and where to send more."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)

    def take(self, content: bytes) -> None:
        """Read one export request."""
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        span.name,
                        named["eacps.process"],
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        {each.key: each.value.string_value for each in span.attributes},
                    )
                    for span in scope.spans
                ]


@contextmanager
def receiving_spans() -> Iterator[SpanReceiver]:
    """A receiver that runs until the end of the block."""
    receiver = SpanReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            assert self.path == "/v1/traces"
            receiver.take(content)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
