"""Gives each request an id, and counts, times and traces it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask
from werkzeug.exceptions import HTTPException

from eacps import log, tracing
from eacps.labelstudio.web import metrics
from eacps.labelstudio.web.request_ids import REQUEST_ID, REQUEST_ID_HEADER, request_id

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

UNKNOWN: Final = "other"
_METHODS: Final = ("GET", "HEAD", "POST", "OPTIONS")


class ObservedApp:
    """A WSGI app whose requests have an id, which logs, spans and jobs name."""

    def __init__(self, app: Flask) -> None:
        self._routes = app.url_map
        self._app: WSGIApplication = app.wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        environ[REQUEST_ID] = request
        route, method = self._route(environ), _method(environ)
        status = "500"

        def start(line: str, headers: list[tuple[str, str]], *more: Any) -> Callable[..., object]:
            nonlocal status
            status = line[:3]
            return start_response(line, [*headers, (REQUEST_ID_HEADER, request)], *more)

        began = time.perf_counter()
        parent = {tracing.PARENT: environ.get("HTTP_TRACEPARENT")}
        try:
            with (
                tracing.continued(parent),
                log.ids(request=request),
                tracing.span("request", route=route, method=method),
            ):
                return self._app(environ, start)
        finally:
            metrics.REQUESTS.labels(route, method, status).inc()
            metrics.REQUEST_SECONDS.labels(route).observe(time.perf_counter() - began)

    def _route(self, environ: WSGIEnvironment) -> str:
        """The pattern of the path, because there are endless paths."""
        try:
            rule, _ = self._routes.bind_to_environ(environ).match(return_rule=True)
        except (HTTPException, UnicodeError):
            return UNKNOWN
        return str(rule.rule)


def _method(environ: WSGIEnvironment) -> str:
    method = str(environ.get("REQUEST_METHOD", ""))
    return method if method in _METHODS else UNKNOWN
