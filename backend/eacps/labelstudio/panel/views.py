"""The routes of the panel. The capability in the address is all that opens them: no cookie, no
password, and what they answer is for this one task."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, request

from eacps.artifacts import NAME, ArtifactStore, open_store
from eacps.domain import digest
from eacps.errors import EacpsError
from eacps.jobs.contract import PanelLimitError
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.panel.addresses import PATH, ancestors
from eacps.labelstudio.panel.asking import MOST_BYTES, read_request
from eacps.labelstudio.panel.capability import (
    Capability,
    PanelKeys,
    PanelRefusedError,
    open_keys,
    require_not_revoked,
    scopes_of,
)
from eacps.labelstudio.panel.content import MASK, REFERENCE, SOURCE, Known, content
from eacps.labelstudio.panel.pictures import Pictures, gone
from eacps.labelstudio.panel.progress import jobs_of, progress
from eacps.labelstudio.panel.steering import Steering
from eacps.labelstudio.tasks.origins import fields_of
from eacps.labelstudio.tasks.regions import mapping, text

if TYPE_CHECKING:
    from eacps.labelstudio.web.ml_model import Services
    from eacps.settings import Settings

BLUEPRINT: Final = "panel"
STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_YEAR: Final = 365 * 24 * 3600
_OWN: Final = (SOURCE, MASK, *(f"{REFERENCE}-{index}" for index in range(8)))
_UNKNOWN: Final = (
    "This address opens no panel. It may be from a copy of a task, or it was made before the "
    "backend's secrets changed. Reload the task; if that does not help, whoever runs the backend "
    "can write a new address into it (`eacps panel renew`)."
)
_NONE_YET: Final = (
    "This task has no panel yet. It gets one when its search is queued: reload the task in a few "
    "seconds."
)
_MISSING: Final = "undefined"
"""What Label Studio writes in place of a field that a task lacks."""


@dataclass
class Panel:
    """What the panel's routes share; opened on first use, after a fork."""

    services: Services
    _store: ArtifactStore | None = None
    _client: LabelStudioClient | None = None
    _keys: PanelKeys | None = None
    _steering: Steering | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.services.settings

    @property
    def store(self) -> ArtifactStore:
        """The artifact store."""
        with self._opening:
            if self._store is None:
                self._store = open_store(self.settings)
            return self._store

    @property
    def client(self) -> LabelStudioClient:
        """The client of Label Studio."""
        with self._opening:
            if self._client is None:
                self._client = open_client(self.settings)
            return self._client

    @property
    def steering(self) -> Steering:
        """What takes requests."""
        with self._opening:
            if self._steering is not None:
                return self._steering
        found = Steering(self.settings, self.services.jobs, self.client)
        with self._opening:
            self._steering = found
        return found

    @property
    def keys(self) -> PanelKeys:
        """The keys of capabilities."""
        with self._opening:
            if self._keys is None:
                self._keys = open_keys(self.settings)
            return self._keys

    def opened(self, text: str) -> Capability:
        """The capability that this text is; raises PanelRefusedError if it opens nothing."""
        if self.settings.panel == "off" or not self.settings.label_studio_url:
            raise PanelRefusedError(
                "The panel is switched off (EACPS_PANEL=off).", code="panel_off"
            )
        if text == _MISSING:
            raise PanelRefusedError(_NONE_YET, code="panel_missing")
        capability = self.keys.read(text)
        if capability is None:
            raise PanelRefusedError(_UNKNOWN, code="panel_unknown")
        address = self.settings.label_studio_url
        scopes = scopes_of(address, project=capability.project, task=capability.task)
        require_not_revoked(capability, self.services.jobs.revoked(scopes))
        return capability

    def picture_url(self, capability: Capability, name: str) -> str:
        """The address of a picture, relative to the page."""
        return f"pictures/{self.keys.mark(capability, name)}/{name}"

    def state(self, capability: Capability) -> dict[str, Any]:
        """What goes on with the task's jobs."""
        jobs = self.services.jobs
        return progress(jobs, jobs_of(jobs, self.settings.label_studio_url, capability))

    def fields(self, row: Mapping[str, Any]) -> Settings:
        """The settings with the fields that a task's project uses."""
        return fields_of(self.steering.origin(row), self.settings)

    def content(self, capability: Capability) -> dict[str, Any]:
        """Everything that the page shows."""
        jobs = self.services.jobs
        # In this order: what changes meanwhile has another revision, and is asked for again.
        statuses = jobs_of(jobs, self.settings.label_studio_url, capability)
        state = progress(jobs, statuses)
        row = self.client.read_task(capability.project, capability.task)
        if row is None:
            raise gone()
        keys = {status.key for status in statuses if status.key} | _keys_on_cards(row)
        found = {key: jobs.search(key) for key in sorted(keys)}
        origin = self.steering.origin(row)
        known = Known(
            row=row,
            statuses=statuses,
            searches={key: search for key, search in found.items() if search},
            url_of=lambda name: self.picture_url(capability, name),
            has=self.store.exists,
            settings=fields_of(origin, self.settings),
        )
        steer = self.steering.offer(row, origin) if self.settings.panel == "on" else None
        shown = {**content(known), "may": self.settings.panel, "state": state}
        return {**shown, "steer": steer}


def register(app: Flask, services: Services) -> None:
    """Add the panel's routes to an app."""
    panel = Panel(services)
    routes = Blueprint(BLUEPRINT, __name__)
    routes.register_error_handler(PanelRefusedError, _refused)
    routes.register_error_handler(EacpsError, _failed)

    def opening(view: Callable[..., Response]) -> Callable[..., Response]:
        def opened(capability: str, **arguments: str) -> Response:
            return view(panel, panel.opened(capability), **arguments)

        return opened

    base = f"{PATH}/<capability>"
    for path, name, view in (
        ("/", "page", _page),
        ("/task.json", "task", _task),
        ("/state.json", "state", _state),
        ("/pictures/<mark>/<name>", "picture", _picture),
    ):
        routes.add_url_rule(f"{base}{path}", name, opening(view), methods=["GET"])
    routes.add_url_rule(f"{base}/actions", "actions", opening(_actions), methods=["POST"])
    routes.add_url_rule(f"{PATH}-files/<version>/<name>", "file", _file, methods=["GET"])
    app.register_blueprint(routes)


def _page(_panel: Panel, _capability: Capability) -> Response:
    return _html(_template("panel.html").replace("FILES", f"../..{PATH}-files/{_version()}"))


def _task(panel: Panel, capability: Capability) -> Response:
    return _json(panel.content(capability))


def _state(panel: Panel, capability: Capability) -> Response:
    return _json(panel.state(capability))


def _picture(panel: Panel, capability: Capability, mark: str, name: str) -> Response:
    known = NAME.fullmatch(name) or name in _OWN
    if not known or not panel.keys.has_mark(capability, name, mark):
        raise PanelRefusedError("This panel has no such picture.", code="picture_unknown")
    lasting = bool(NAME.fullmatch(name))
    kept = f"private, max-age={_YEAR}, immutable" if lasting else "private, max-age=600"
    headers = {"Cache-Control": kept, "Cross-Origin-Resource-Policy": "same-origin"}
    if lasting:
        headers["ETag"] = f'"{name}"'
        if request.if_none_match.contains(name):
            return Response(status=304, headers=headers)
    pictures = Pictures(panel.settings, panel.store, panel.client, panel.fields)
    body, kind = pictures.read(capability.project, capability.task, name)
    return Response(body, mimetype=kind, headers=headers)


def _actions(panel: Panel, capability: Capability) -> Response:
    _require_own_page(panel.settings)
    if (request.content_length or 0) > MOST_BYTES:
        raise PanelRefusedError("The request is too large.", code="panel_request", status=413)
    body = request.get_json(silent=True)
    if isinstance(body, dict) and body.get("action") == "cancel":
        return _json(panel.steering.cancel(capability, text(body.get("job"))[:80]))
    return _json(panel.steering.ask(capability, read_request(body)))


def _require_own_page(settings: Settings) -> None:
    """Refuse what other sites' pages send. Programs, which send no such header, may ask."""
    if request.mimetype != "application/json":
        raise PanelRefusedError(
            "A request needs `Content-Type: application/json`.", code="panel_request", status=415
        )
    origin = request.headers.get("Origin", "")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    # Behind a proxy, the browser's address for this backend is another one.
    own = {request.host, urlsplit(settings.resolved_browser_url).netloc}
    if site not in ("same-origin", "none") or (origin and urlsplit(origin).netloc not in own):
        raise PanelRefusedError(
            "Only the panel's own page may ask for something.", code="panel_origin", status=403
        )


def _file(version: str, name: str) -> Response:
    if version != _version() or name not in _files() or name.endswith(".html"):
        raise PanelRefusedError("There is no such file.", code="not_found")
    return Response(
        _files()[name],
        mimetype=_TYPES[Path(name).suffix],
        headers={"Cache-Control": f"public, max-age={_YEAR}, immutable"},
    )


def _keys_on_cards(row: Mapping[str, Any]) -> set[str]:
    keys = {text(mapping(card.get(RECORD)).get("key")) for card in cards_of(row.get("data"))}
    return keys - {""}


@cache
def _files() -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in _TYPES}


@cache
def _version() -> str:
    """A hash of all files, so that browsers may keep them for ever."""
    whole = hashlib.sha256()
    for name, written in sorted(_files().items()):
        whole.update(f"{name} {len(written)}\n".encode() + written)
    return whole.hexdigest()[:16]


def _template(name: str) -> str:
    return _files()[name].decode()


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, mimetype="text/html", headers={"Cache-Control": "no-store"})


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    response = Response(body, status, mimetype="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.set_etag(digest(body))
    response.make_conditional(request)
    return response


def _refused(error: PanelRefusedError) -> Response:
    return _said(error.code, str(error), error.status)


def _failed(error: EacpsError) -> Response:
    return _said(error.code, str(error), 429 if isinstance(error, PanelLimitError) else 503)


def _said(code: str, message: str, status: int) -> Response:
    if request.endpoint == f"{BLUEPRINT}.page":
        style = f"../..{PATH}-files/{_version()}"
        page = _template("message.html").replace("FILES", style)
        return _html(page.replace("MESSAGE", escape(message)), status)
    response = _json({"error": {"code": code, "message": message}}, status)
    response.headers["Cache-Control"] = "no-store"
    return response


def headers(settings: Settings) -> dict[str, str]:
    """The headers of everything that the panel answers. Label Studio's pages may contain it, and it
    may load only what comes from here; so there is no X-Frame-Options, which knows no other
    sites."""
    return {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Content-Security-Policy": (
            "default-src 'none'; base-uri 'none'; form-action 'none'; script-src 'self'; "
            "style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
            f"frame-ancestors {ancestors(settings)}"
        ),
    }
