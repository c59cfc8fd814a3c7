"""Gunicorn's log lines in the format of all others, and a line for each request."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from gunicorn.glogging import Logger

from eacps import log
from eacps.errors import SettingsError
from eacps.labelstudio.web.request_ids import REQUEST_ID
from eacps.settings import load_settings

access_log = logging.getLogger("eacps.access")

_POLLED: Final = ("/", "/health", "/ready", "/metrics", "/status", "/status.js", "/status.json")
_ARTIFACTS: Final = "/artifacts/"
_PANELS: Final = "/panel"
_LONGEST_PATH: Final = 200


class GunicornLogger(Logger):  # type: ignore[misc]
    """Hands everything to the logging of this package."""

    def setup(self, cfg: Any) -> None:
        """Format lines like ours, unless gunicorn was told to write a file."""
        super().setup(cfg)
        if cfg.errorlog != "-":
            return
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        try:
            settings = load_settings()
        except SettingsError:
            # The worker says what is wrong with them.
            log.configure(process="web")
        else:
            log.configure(settings.log_level, settings.log_format, process="web")

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: timedelta) -> dict[str, Any]:
        """The values for a line in gunicorn's own access log, without what opens a panel."""
        found: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return {
            name: log.masked(value) if isinstance(value, str) else value
            for name, value in found.items()
        }

    def access(self, resp: Any, req: Any, environ: Any, request_time: timedelta) -> None:
        """A line for a request that was answered."""
        super().access(resp, req, environ, request_time)
        # What could not be parsed has neither a path nor a code, only a status line.
        path = shown_path(str(environ.get("PATH_INFO") or getattr(req, "path", "") or ""))
        fields = {
            "method": str(environ.get("REQUEST_METHOD", ""))[:20],
            "path": path,
            "status": int(str(resp.status).split()[0]),
            "seconds": round(request_time.total_seconds(), 4),
            "bytes": getattr(resp, "sent", None),
            "client": environ.get("REMOTE_ADDR", ""),
        }
        with log.ids(request=environ.get(REQUEST_ID)):
            access_log.log(
                logging.DEBUG if _is_routine(fields) else logging.INFO,
                "%s %s: %s in %.3f s",
                *(fields[name] for name in ("method", "path", "status", "seconds")),
                extra={"fields": fields},
            )


def _is_routine(fields: dict[str, Any]) -> bool:
    """Whether it is a successful look by a probe, a scraper or an open page."""
    path = fields["path"]
    polled = path in _POLLED or path.startswith((_ARTIFACTS, _PANELS))
    return bool(polled and fields["method"] in ("GET", "HEAD") and fields["status"] < 400)


def shown_path(path: str) -> str:
    """A path for a log line: in one line, and without what opens an image or a panel."""
    if path.startswith(_ARTIFACTS):
        _, _, name = path.removeprefix(_ARTIFACTS).partition("/")
        path = f"{_ARTIFACTS}***/{name}"
    # Also where it stands in a mistyped path, or behind a proxy's prefix.
    path = log.masked(path)
    return quote(path.encode("latin-1", "replace"), safe="/*:@")[:_LONGEST_PATH]
