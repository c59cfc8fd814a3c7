"""A gunicorn worker that buffers requests and responses, so its threads never wait for a client.

gthread gives each connection a thread as soon as its first byte arrives, so a few slow clients
occupy all threads. Here the main loop receives a request with its whole body before a thread sees
it, and sends the answer after the thread has finished it. Both have a deadline.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import Any

from gunicorn import http
from gunicorn.http.errors import ConfigurationProblem, InvalidHeader
from gunicorn.workers.gthread import TConn, ThreadWorker

from eacps.errors import SettingsError
from eacps.labelstudio.web.connection_limits import ConnectionLimits
from eacps.labelstudio.web.headers import SECURITY_HEADERS
from eacps.labelstudio.web.incoming_request import IN_MEMORY_BYTES, IncomingRequest, RefusedError
from eacps.labelstudio.web.password import Password
from eacps.settings import Settings, load_settings

LINGER_SECONDS = 2.0
"""How long a client may take to close after our answer; closing at once could cut the answer."""
SHUTDOWN_SECONDS = 2.0
"""How long a stopping worker waits for requests that have begun to arrive."""
BODIES_AT_ONCE = 4
"""The bodies that arrive together may have this many times the bytes of one."""
_BLOCK_BYTES = 262_144
_WRITES_AT_ONCE = 4
"""A client that is fast must not keep the main loop from the others."""


class ResponseBuffer:
    """Takes what a thread writes to a client; the main loop sends it."""

    def __init__(self) -> None:
        self.content = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115

    def sendall(self, data: bytes) -> None:
        """Keep the data."""
        self.content.write(data)

    def send(self, data: bytes) -> int:
        """Keep the data."""
        self.sendall(data)
        return len(data)

    def recv(self, _: int) -> bytes:
        """Nothing, as if the client had closed."""
        return b""

    def gettimeout(self) -> float:
        """0, because nothing ever blocks."""
        return 0.0

    def setblocking(self, _: bool) -> None:
        """Do nothing."""

    settimeout = shutdown = setblocking

    def close(self) -> None:
        """Do nothing, because the main loop closes the connection."""


class _RequestBytes:
    """Gives gunicorn's parser the bytes of one request."""

    def __init__(self, incoming: IncomingRequest) -> None:
        incoming.content.seek(0)
        self._content = incoming.content

    def recv(self, size: int) -> bytes:
        return self._content.read(size)


class Connection(TConn):  # type: ignore[misc]
    """A client's connection: takes turns in receiving a request and sending the answer."""

    def __init__(
        self, worker: BufferingWorker, sock: socket.socket, address: Any, server: Any
    ) -> None:
        super().__init__(worker.cfg, sock, address, server)
        self.address = str(address[0]) if isinstance(address, tuple) else ""
        self.incoming: IncomingRequest | None = None
        self.pipelined = b""
        self.response = ResponseBuffer()
        self.unsent = b""
        self.after_sending: Callable[[], None] = self.close
        self.deadline = 0.0
        self.on_timeout: Callable[[], None] = self.close
        self.counted_as: list[str] = []
        self._worker = worker

    def close(self, graceful: bool = False) -> None:
        """Close now, or when the client has taken the answer."""
        if graceful:
            self._worker.linger(self)
        else:
            self._worker.on_close(self)
            super().close()


class BufferingWorker(ThreadWorker):  # type: ignore[misc]
    """gthread, but a thread only gets complete requests and never writes to a socket."""

    def init_process(self) -> None:
        """Read the settings. Here, because their errors must stop gunicorn."""
        if self.cfg.is_ssl:
            raise SettingsError(
                "This web server does not speak TLS.", hint="Put a proxy with TLS before it."
            )
        self._settings: Settings = load_settings()
        self._password = Password.of(self._settings)
        self._limits = ConnectionLimits(self._settings)
        self._limits.watch_label_studio()
        # Whose sockets are in the poller because of us, in the order in which they were added.
        self._watched: dict[Connection, None] = {}
        self._deadlines_checked = 0.0
        # Only now, because prometheus_client must be imported after on_starting in gunicorn_config.
        from eacps.labelstudio.web import metrics

        self._metrics = metrics
        super().init_process()

    # --- receiving

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and receive its request in the main loop."""
        try:
            sock, address = listener.accept()
        except OSError:
            # The client is gone, or there are too many open files: no reason to die.
            return
        self._make_room()
        connection = Connection(self, sock, address, listener.getsockname())
        self.nr_conns += 1
        try:
            self._count(connection, connection.address)
        except RefusedError as refusal:
            self._refuse(connection, refusal)
        else:
            self._receive(connection)

    def _count(self, connection: Connection, address: str) -> None:
        if not self._limits.acquire(address):
            limit = self._settings.connections_per_client
            raise RefusedError(
                429,
                "too_many_connections",
                f"This client has {limit} connections already (EACPS_CONNECTIONS_PER_CLIENT).",
            )
        connection.counted_as.append(address)

    def _make_room(self) -> None:
        """Close the connection whose request has been arriving longest, if there are too many."""
        if self.nr_conns + 1 < self.worker_connections:
            return
        for connection in self._watched:
            if connection.incoming is not None and not self._limits.is_unlimited(
                connection.address
            ):
                self._drop(connection)
                return

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """A kept connection sends its next request."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._receive(conn)

    def _receive(self, connection: Connection) -> None:
        connection.incoming = IncomingRequest(self._settings.max_request_bytes)
        self._watch(
            connection,
            selectors.EVENT_READ,
            self._on_readable,
            seconds=self._settings.request_head_seconds,
            on_timeout=self._on_request_timeout,
        )
        following, connection.pipelined = connection.pipelined, b""
        if following:
            self._feed(connection, following)

    def _on_readable(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(_BLOCK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._feed(connection, data)
        else:
            self._drop(connection)

    def _feed(self, connection: Connection, data: bytes) -> None:
        incoming = connection.incoming
        assert incoming is not None
        known = incoming.head is not None
        try:
            incoming.feed(data)
            if not known and incoming.head is not None:
                self._on_head(connection, incoming)
            if not incoming.done:
                self._require_space(connection)
        except RefusedError as refusal:
            self._refuse(connection, refusal)
            return
        if incoming.done:
            self._dispatch(connection, incoming)

    def _on_head(self, connection: Connection, incoming: IncomingRequest) -> None:
        """The head is complete: find the client, and decide whether the body is wanted."""
        assert incoming.head is not None
        headers = incoming.head.headers
        if self._limits.is_proxy(connection.address):
            client = self._limits.forwarded_client(headers.get("x-forwarded-for", ""))
            if client:
                self._count(connection, client)
        if not self._password.accepts(headers.get("authorization", "")):
            # Answered 401 or with something public; both need no body.
            incoming.done = True
        connection.deadline = time.monotonic() + self._settings.request_seconds
        if incoming.head.expects_continue and not incoming.done:
            try:
                connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                connection.deadline = 0.0

    def _require_space(self, connection: Connection) -> None:
        if self._limits.is_unlimited(connection.address):
            return
        held = sum(other.incoming.size for other in self._watched if other.incoming)
        if held > BODIES_AT_ONCE * self._settings.max_request_bytes:
            raise RefusedError(429, "too_many_bytes", "Too much is being sent. Try again later.")

    def _dispatch(self, connection: Connection, incoming: IncomingRequest) -> None:
        """Give the complete request to a thread."""
        self._unwatch(connection)
        connection.incoming = None
        connection.pipelined = incoming.pipelined
        connection.parser = http.get_parser(self.cfg, _RequestBytes(incoming), connection.client)
        connection.initialized = connection.data_ready = True
        self.enqueue_req(connection)

    def _on_request_timeout(self, connection: Connection) -> None:
        if connection.incoming is not None and connection.incoming.started:
            message = "The request did not arrive in time."
            self._refuse(connection, RefusedError(408, "request_too_slow", message))
        else:
            self._drop(connection)

    # --- answering

    def handle(self, conn: Connection) -> Any:
        """Answer a request, in a thread; what it writes is kept."""
        sock, conn.sock = conn.sock, conn.response
        try:
            return super().handle(conn)
        finally:
            conn.sock = sock

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn refuses as JSON. A SCRIPT_NAME that is wrong is the client's."""
        if isinstance(exc, ConfigurationProblem):
            exc = InvalidHeader("SCRIPT_NAME")
        page = ResponseBuffer()
        super().handle_error(req, page, addr, exc)
        page.content.seek(0)
        status = int(page.content.read(12).split()[1])
        self._metrics.REFUSALS.labels("bad_request").inc()
        client.sendall(error_response(status, "bad_request", HTTPStatus(status).phrase))

    def _refuse(self, connection: Connection, refusal: RefusedError) -> None:
        self._metrics.REFUSALS.labels(refusal.code).inc()
        self._unwatch(connection)
        connection.incoming = None
        connection.response.sendall(error_response(refusal.status, refusal.code, refusal.message))
        connection.after_sending = partial(self._finish_refused, connection)
        self._send(connection)

    def _finish_refused(self, connection: Connection) -> None:
        self.nr_conns -= 1
        connection.close(graceful=True)

    # --- sending

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """A thread has finished: send its answer, then keep or close the connection."""
        conn.after_sending = partial(self._finish_answered, conn, fs)
        self._send(conn)

    def _finish_answered(self, connection: Connection, fs: Any) -> None:
        connection.response = ResponseBuffer()
        for client in connection.counted_as[1:]:
            self._limits.release(client)
        del connection.counted_as[1:]
        super().finish_request(connection, fs)
        if connection.pipelined and connection in self.keepalived_conns:
            # The next request is here already, so the socket will not become readable.
            self.on_client_socket_readable(connection, connection.sock)

    def _send(self, connection: Connection) -> None:
        connection.response.content.seek(0)
        connection.sock.setblocking(False)
        self._watch(
            connection,
            selectors.EVENT_WRITE,
            self._on_writable,
            seconds=self._settings.request_seconds,
            on_timeout=self._drop,
        )
        self._on_writable(connection)

    def _on_writable(self, connection: Connection) -> None:
        try:
            for _ in range(_WRITES_AT_ONCE):
                connection.unsent = connection.unsent or connection.response.content.read(
                    _BLOCK_BYTES
                )
                if not connection.unsent:
                    self._unwatch(connection)
                    connection.after_sending()
                    return
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)

    def linger(self, connection: Connection) -> None:
        """Close as soon as the client does, or after a moment."""
        try:
            connection.sock.setblocking(False)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        self._watch(
            connection,
            selectors.EVENT_READ,
            self._on_lingering,
            seconds=LINGER_SECONDS,
            on_timeout=Connection.close,
        )

    def _on_lingering(self, connection: Connection) -> None:
        try:
            gone = not connection.sock.recv(_BLOCK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            connection.close()

    # --- the poller

    def _watch(
        self,
        connection: Connection,
        event: int,
        callback: Callable[[Connection], None],
        *,
        seconds: float,
        on_timeout: Callable[[Connection], None],
    ) -> None:
        connection.deadline = time.monotonic() + seconds
        connection.on_timeout = partial(on_timeout, connection)
        self._watched[connection] = None
        self.poller.register(connection.sock, event, partial(self._on_event, connection, callback))

    def _on_event(
        self, connection: Connection, callback: Callable[[Connection], None], _: socket.socket
    ) -> None:
        # An event before this one may have closed the connection.
        if connection in self._watched:
            callback(connection)

    def _unwatch(self, connection: Connection) -> None:
        if connection in self._watched:
            del self._watched[connection]
            self.poller.unregister(connection.sock)

    def _drop(self, connection: Connection) -> None:
        self.nr_conns -= 1
        connection.close()

    def on_close(self, connection: Connection) -> None:
        """Forget a connection that is about to be closed."""
        self._unwatch(connection)
        for client in connection.counted_as:
            self._limits.release(client)
        connection.counted_as.clear()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Also end what is past its deadline."""
        super().wait_for_and_dispatch_events(timeout)
        now = time.monotonic()
        if now < self._deadlines_checked + 0.5:
            return
        self._deadlines_checked = now
        self._metrics.CONNECTIONS.set(self.nr_conns)
        for connection in list(self._watched):
            if not self.alive:
                connection.deadline = min(connection.deadline, now + SHUTDOWN_SECONDS)
            if now >= connection.deadline:
                connection.on_timeout()


def error_response(status: int, code: str, message: str) -> bytes:
    """An answer that closes the connection."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = {
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **({"Retry-After": "1"} if status == 429 else {}),
        **SECURITY_HEADERS,
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
