"""A gunicorn worker whose threads never wait for a client.

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
from eacps.labelstudio.web.arrival import IN_MEMORY_BYTES, Arrival, RefusedError
from eacps.labelstudio.web.guests import Guests
from eacps.labelstudio.web.headers import SECURITY_HEADERS
from eacps.labelstudio.web.password import Password
from eacps.settings import Settings, load_settings

LINGER_SECONDS = 2.0
"""How long a client may take to close after our answer; closing at once could cut the answer."""
STOPPING_SECONDS = 2.0
"""How long a stopping worker waits for requests that have begun to arrive."""
BODIES_AT_ONCE = 4
"""The bodies that arrive together may have this many times the bytes of one."""
_PIECE = 262_144
_PIECES_AT_ONCE = 4
"""A client that is fast must not keep the main loop from the others."""


class Outbox:
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


class _Received:
    """Gives gunicorn's parser the bytes of one request."""

    def __init__(self, arrival: Arrival) -> None:
        arrival.content.seek(0)
        self._content = arrival.content

    def recv(self, size: int) -> bytes:
        return self._content.read(size)


class Visit(TConn):  # type: ignore[misc]
    """A connection: it arrives, is answered by a thread, is sent the answer; then again."""

    def __init__(self, worker: DoorWorker, sock: socket.socket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, sock, address, server)
        self.address = str(address[0]) if isinstance(address, tuple) else ""
        self.arrival: Arrival | None = None
        self.rest = b""
        self.outbox = Outbox()
        self.unsent = b""
        self.then: Callable[[], None] = self.close
        self.deadline = 0.0
        self.expired: Callable[[], None] = self.close
        self.entered: list[str] = []
        self._worker = worker

    def close(self, graceful: bool = False) -> None:
        """Close now, or when the client has taken the answer."""
        if graceful:
            self._worker.linger(self)
        else:
            self._worker.forget(self)
            super().close()


class DoorWorker(ThreadWorker):  # type: ignore[misc]
    """gthread with a door in front of its threads."""

    def init_process(self) -> None:
        """Open the door. Here, because the settings' errors must stop gunicorn."""
        if self.cfg.is_ssl:
            raise SettingsError(
                "This web server does not speak TLS.", hint="Put a proxy with TLS before it."
            )
        self._settings: Settings = load_settings()
        self._password = Password.of(self._settings)
        self._guests = Guests(self._settings)
        self._guests.watch_label_studio()
        # In the order of their arrival; the sockets that are in the poller because of us.
        self._visits: dict[Visit, None] = {}
        self._swept = 0.0
        super().init_process()

    # --- arriving

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and receive its request in the main loop."""
        try:
            sock, address = listener.accept()
        except OSError:
            # The client is gone, or there are too many open files: no reason to die.
            return
        self._make_room()
        visit = Visit(self, sock, address, listener.getsockname())
        self.nr_conns += 1
        try:
            self._enter(visit, visit.address)
        except RefusedError as refusal:
            self._refuse(visit, refusal)
        else:
            self._receive(visit)

    def _enter(self, visit: Visit, address: str) -> None:
        if not self._guests.enter(address):
            limit = self._settings.connections_per_client
            raise RefusedError(
                429,
                "too_many_connections",
                f"This client has {limit} connections already (EACPS_CONNECTIONS_PER_CLIENT).",
            )
        visit.entered.append(address)

    def _make_room(self) -> None:
        """Close the connection that has been arriving longest, if there are too many."""
        if self.nr_conns + 1 < self.worker_connections:
            return
        for visit in self._visits:
            if visit.arrival is not None and not self._guests.is_unlimited(visit.address):
                self._drop(visit)
                return

    def on_client_socket_readable(self, conn: Visit, client: socket.socket) -> None:
        """A kept connection sends its next request."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._receive(conn)

    def _receive(self, visit: Visit) -> None:
        visit.arrival = Arrival(self._settings.max_request_bytes)
        self._watch(
            visit,
            selectors.EVENT_READ,
            self._on_readable,
            seconds=self._settings.request_head_seconds,
            expired=self._on_late,
        )
        following, visit.rest = visit.rest, b""
        if following:
            self._take(visit, following)

    def _on_readable(self, visit: Visit) -> None:
        try:
            data = visit.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(visit, data)
        else:
            self._drop(visit)

    def _take(self, visit: Visit, data: bytes) -> None:
        arrival = visit.arrival
        assert arrival is not None
        known = arrival.head is not None
        try:
            arrival.feed(data)
            if not known and arrival.head is not None:
                self._meet(visit, arrival)
            if not arrival.done:
                self._require_space(visit)
        except RefusedError as refusal:
            self._refuse(visit, refusal)
            return
        if arrival.done:
            self._hand_over(visit, arrival)

    def _meet(self, visit: Visit, arrival: Arrival) -> None:
        """The head is complete: who is it, and do we want the body?"""
        assert arrival.head is not None
        headers = arrival.head.headers
        if self._guests.is_proxy(visit.address):
            client = self._guests.behind(headers.get("x-forwarded-for", ""))
            if client:
                self._enter(visit, client)
        if not self._password.accepts(headers.get("authorization", "")):
            # Answered 401 or with something public; both need no body.
            arrival.done = True
        visit.deadline = time.monotonic() + self._settings.request_seconds
        if arrival.head.expects_continue and not arrival.done:
            try:
                visit.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                visit.deadline = 0.0

    def _require_space(self, visit: Visit) -> None:
        if self._guests.is_unlimited(visit.address):
            return
        held = sum(other.arrival.size for other in self._visits if other.arrival)
        if held > BODIES_AT_ONCE * self._settings.max_request_bytes:
            raise RefusedError(429, "too_many_bytes", "Too much is being sent. Try again later.")

    def _hand_over(self, visit: Visit, arrival: Arrival) -> None:
        """Give the complete request to a thread."""
        self._unwatch(visit)
        visit.arrival = None
        visit.rest = arrival.rest
        visit.parser = http.get_parser(self.cfg, _Received(arrival), visit.client)
        visit.initialized = visit.data_ready = True
        self.enqueue_req(visit)

    def _on_late(self, visit: Visit) -> None:
        if visit.arrival is not None and visit.arrival.begun:
            message = "The request did not arrive in time."
            self._refuse(visit, RefusedError(408, "request_too_slow", message))
        else:
            self._drop(visit)

    # --- answering

    def handle(self, conn: Visit) -> Any:
        """Answer a request, in a thread; what it writes is kept."""
        sock, conn.sock = conn.sock, conn.outbox
        try:
            return super().handle(conn)
        finally:
            conn.sock = sock

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn refuses as JSON. A SCRIPT_NAME that is wrong is the client's."""
        if isinstance(exc, ConfigurationProblem):
            exc = InvalidHeader("SCRIPT_NAME")
        page = Outbox()
        super().handle_error(req, page, addr, exc)
        page.content.seek(0)
        status = int(page.content.read(12).split()[1])
        client.sendall(answer(status, "bad_request", HTTPStatus(status).phrase))

    def _refuse(self, visit: Visit, refusal: RefusedError) -> None:
        self._unwatch(visit)
        visit.arrival = None
        visit.outbox.sendall(answer(refusal.status, refusal.code, refusal.message))
        visit.then = partial(self._end, visit)
        self._send(visit)

    def _end(self, visit: Visit) -> None:
        self.nr_conns -= 1
        visit.close(graceful=True)

    # --- sending

    def finish_request(self, conn: Visit, fs: Any) -> None:
        """A thread has finished: send its answer, then keep or close the connection."""
        conn.then = partial(self._finish, conn, fs)
        self._send(conn)

    def _finish(self, visit: Visit, fs: Any) -> None:
        visit.outbox = Outbox()
        for client in visit.entered[1:]:
            self._guests.leave(client)
        del visit.entered[1:]
        super().finish_request(visit, fs)
        if visit.rest and visit in self.keepalived_conns:
            # The next request is here already, so the socket will not become readable.
            self.on_client_socket_readable(visit, visit.sock)

    def _send(self, visit: Visit) -> None:
        visit.outbox.content.seek(0)
        visit.sock.setblocking(False)
        self._watch(
            visit,
            selectors.EVENT_WRITE,
            self._on_writable,
            seconds=self._settings.request_seconds,
            expired=self._drop,
        )
        self._on_writable(visit)

    def _on_writable(self, visit: Visit) -> None:
        try:
            for _ in range(_PIECES_AT_ONCE):
                visit.unsent = visit.unsent or visit.outbox.content.read(_PIECE)
                if not visit.unsent:
                    self._unwatch(visit)
                    visit.then()
                    return
                visit.unsent = visit.unsent[visit.sock.send(visit.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(visit)

    def linger(self, visit: Visit) -> None:
        """Close as soon as the client does, or after a moment."""
        try:
            visit.sock.setblocking(False)
            visit.sock.shutdown(socket.SHUT_WR)
        except OSError:
            visit.close()
            return
        self._watch(
            visit,
            selectors.EVENT_READ,
            self._on_leaving,
            seconds=LINGER_SECONDS,
            expired=Visit.close,
        )

    def _on_leaving(self, visit: Visit) -> None:
        try:
            gone = not visit.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            visit.close()

    # --- the poller

    def _watch(
        self,
        visit: Visit,
        event: int,
        callback: Callable[[Visit], None],
        *,
        seconds: float,
        expired: Callable[[Visit], None],
    ) -> None:
        visit.deadline = time.monotonic() + seconds
        visit.expired = partial(expired, visit)
        self._visits[visit] = None
        self.poller.register(visit.sock, event, partial(self._called, visit, callback))

    def _called(self, visit: Visit, callback: Callable[[Visit], None], _: socket.socket) -> None:
        # An event before this one may have closed the connection.
        if visit in self._visits:
            callback(visit)

    def _unwatch(self, visit: Visit) -> None:
        if visit in self._visits:
            del self._visits[visit]
            self.poller.unregister(visit.sock)

    def _drop(self, visit: Visit) -> None:
        self.nr_conns -= 1
        visit.close()

    def forget(self, visit: Visit) -> None:
        """The connection is about to be closed."""
        self._unwatch(visit)
        for client in visit.entered:
            self._guests.leave(client)
        visit.entered.clear()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Also end what is late."""
        super().wait_for_and_dispatch_events(timeout)
        now = time.monotonic()
        if now < self._swept + 0.5:
            return
        self._swept = now
        for visit in list(self._visits):
            if not self.alive:
                visit.deadline = min(visit.deadline, now + STOPPING_SECONDS)
            if now >= visit.deadline:
                visit.expired()


def answer(status: int, code: str, message: str) -> bytes:
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
