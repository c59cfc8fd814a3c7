"""`eacps connect`: connects a Label Studio project to this backend; safe to repeat."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Literal
from urllib.parse import urlsplit

from eacps.errors import EacpsError
from eacps.faces.readiness import CONSENT, readiness
from eacps.labelstudio.client import SSRF, LabelStudioClient, open_client
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.label_config import (
    differs_in_panel_only,
    is_of_earlier_version,
    label_config,
    same_config,
)
from eacps.labelstudio.panel import addresses
from eacps.labelstudio.review_tab import tabs_of
from eacps.labelstudio.webhook_secret import secret_headers
from eacps.settings import Settings

_OUR_TITLE = re.compile(r"[A-Za-z0-9_]+-[0-9a-f]{10}")
_WANTED_SETTINGS = {"evaluate_predictions_automatically": True, "show_collab_predictions": True}
_UNREACHABLE = (
    "Label Studio cannot reach this backend at {url}. Start it (`eacps serve`), and set "
    "EACPS_PUBLIC_URL to an address that works from where Label Studio runs (inside Docker, "
    "127.0.0.1 is the container itself)."
)


_CONNECTED = ("CO", "PR", "TR")
DIAGNOSED_PROJECTS = 30
_PROJECTS_PER_PAGE = 100
Level = Literal["ok", "changed", "warn", "fail"]
Diagnosis = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Line:
    """A line of the report."""

    level: Level
    text: str


@dataclass
class _Report:
    lines: list[Line]

    def add(self, level: Level, text: str) -> None:
        self.lines.append(Line(level, text))


def connect(
    settings: Settings,
    project: int | str,
    *,
    create: bool = False,
    backend_url: str = "",
    force: bool = False,
) -> list[Line]:
    """Connect a project, given by number or title; reports what was done or is wrong.

    `create` creates a missing project; `force` replaces the label config even if the project
    already has annotations.
    """
    report = _Report([])
    url = (backend_url or settings.resolved_public_url).rstrip("/")
    try:
        client = open_client(settings)
        report.add("ok", f"Label Studio at {client.url} accepts the token of {client.whoami()}.")
        found = _project(client, project, create, settings, report)
        _configure(client, found, label_config(settings, url), settings, force, report)
        _connect_backend(client, int(found["id"]), url, settings, report)
        _connect_webhook(client, int(found["id"]), url, settings, report)
        _add_tabs(client, int(found["id"]), settings, report)
        if settings.panel != "off":
            for problem in addresses.problems(settings, url):
                report.add("warn", problem)
        if readiness(settings).engine:
            report.add("warn", f"Face swaps are available. {CONSENT}")
    except EacpsError as error:
        report.add("fail", str(error))
    return report.lines


def diagnose(settings: Settings) -> Iterator[tuple[Diagnosis, str]]:
    """The checks of `eacps doctor` for Label Studio; changes nothing."""
    try:
        client = open_client(settings)
        yield "ok", f"{client.url} accepts the token of {client.whoami()}"
        yield from _connected_projects(client, settings.resolved_public_url)
    except EacpsError as error:
        yield "fail", str(error)


def _connected_projects(client: LabelStudioClient, url: str) -> Iterator[tuple[Diagnosis, str]]:
    projects = client.list_rows("/api/projects/", page_size=DIAGNOSED_PROJECTS)
    connected = False
    for project in projects:
        row = _row(client.list_rows("/api/ml", project=project["id"]), url)
        if row is None:
            continue
        connected = True
        name = f"project {project['id']} “{project.get('title')}”"
        hook = _row(client.list_rows("/api/webhooks/", project=project["id"]), f"{url}/webhook")
        if row.get("state") not in _CONNECTED:
            yield "fail", f"{name}: {_UNREACHABLE.format(url=url)}"
        elif hook is None:
            yield "warn", f"{name} does not announce new tasks: run `eacps connect` again"
        else:
            yield "ok", f"{name} is connected to {url}"
    if not connected:
        yield (
            "warn",
            f"none of the {len(projects)} newest projects uses {url}: run `eacps connect`",
        )


def connected_projects(
    client: LabelStudioClient, url: str
) -> Iterator[tuple[Mapping[str, Any], float]]:
    """The projects that announce their tasks to this address, or have it as their ML backend, each
    with the moment since when; changes nothing."""
    hooks = [row for row in client.list_rows("/api/webhooks/") if _announces(row, f"{url}/webhook")]
    # Naming the fields spares Label Studio the counting of all annotations.
    fields = "id,label_config,model_version"
    pages = client.pages("/api/projects/", _PROJECTS_PER_PAGE, include=fields)
    for project in chain.from_iterable(pages):
        rows = [row for row in hooks if row.get("project") in (None, project["id"])]
        if _OUR_TITLE.fullmatch(str(project.get("model_version"))):
            # Asked only for projects that may be ours: it makes Label Studio call its backends.
            backends = client.list_rows("/api/ml", project=project["id"])
            rows += [row for row in backends if _has_url(row, url)]
        moments = [_moment(row["created_at"]) for row in rows if row.get("created_at")]
        if moments:
            yield project, min(moments)


def _moment(value: Any) -> float:
    return datetime.fromisoformat(str(value)).timestamp()


def _announces(row: Mapping[str, Any], url: str) -> bool:
    announced = row.get("send_for_all_actions") or "TASKS_CREATED" in (row.get("actions") or [])
    return bool(_has_url(row, url) and row.get("is_active") and announced)


def _project(
    client: LabelStudioClient, wanted: int | str, create: bool, settings: Settings, report: _Report
) -> dict[str, Any]:
    if isinstance(wanted, int) or wanted.isdecimal():
        found = client.project(int(wanted))
    else:
        rows = client.list_rows("/api/projects/", title=wanted, page_size=1000)
        same = [row for row in rows if row.get("title") == wanted]
        if not same and not create:
            raise LabelStudioError(
                f"There is no project titled “{wanted}”.", hint="Add --create to create it."
            )
        if len(same) > 1:
            raise LabelStudioError(
                f"There are {len(same)} projects titled “{wanted}”.", hint="Use its number."
            )
        if not same:
            body = {"title": wanted, "label_config": label_config(settings), **_WANTED_SETTINGS}
            made = client.call("POST", "/api/projects/", json=body)
            report.add("changed", f"Project {made['id']} “{wanted}” was created.")
        found = client.project(int(same[0]["id"] if same else made["id"]))
    report.add("ok", f"Project {found['id']} “{found.get('title')}”.")
    return found


def _configure(
    client: LabelStudioClient,
    project: Mapping[str, Any],
    wanted: str,
    settings: Settings,
    force: bool,
    report: _Report,
) -> None:
    path = f"/api/projects/{project['id']}/"
    changed = {key: value for key, value in _WANTED_SETTINGS.items() if project.get(key) != value}
    if changed:
        client.call("PATCH", path, json=changed)
        report.add("changed", "Predictions are now fetched and shown automatically.")
    existing = str(project.get("label_config") or "")
    if same_config(existing, wanted):
        report.add("ok", "The review label config is in place.")
        return
    annotations = project.get("total_annotations_number") or 0
    ours = is_of_earlier_version(existing, settings) or differs_in_panel_only(existing, wanted)
    if annotations and not force and not ours:
        report.add(
            "warn",
            f"The label config was kept: {annotations} annotations were made with it. Without "
            "the review config, results cannot be shown. Use --force to replace it.",
        )
        return
    client.call("PATCH", path, json={"label_config": wanted})
    report.add("changed", "The review label config was installed.")


def _connect_backend(
    client: LabelStudioClient, project: int, url: str, settings: Settings, report: _Report
) -> None:
    rows = client.list_rows("/api/ml", project=project)
    row = _row(rows, url)
    if row is None:
        try:
            row = _create_or_move(client, project, rows, url, settings)
            report.add("changed", f"The ML backend is now {url}.")
        except LabelStudioError as error:
            _explain(client, project, url, error, report)
            return
    elif settings.basic_auth_user or row.get("title") != settings.model_version:
        client.call("PATCH", f"/api/ml/{row['id']}", json=_backend(project, url, settings))
        if row.get("title") != settings.model_version:
            report.add("changed", f"Label Studio now shows the scores of {settings.model_version}.")
    _check_state(row, url, report)


def _create_or_move(
    client: LabelStudioClient,
    project: int,
    rows: list[dict[str, Any]],
    url: str,
    settings: Settings,
) -> dict[str, Any]:
    body = _backend(project, url, settings)
    moved = next((row for row in rows if _OUR_TITLE.fullmatch(str(row.get("title")))), None)
    if moved is None:
        return dict(client.call("POST", "/api/ml", json=body))
    changed = dict(client.call("PATCH", f"/api/ml/{moved['id']}", json=body))
    _remove_webhooks(client, project, str(moved["url"]).rstrip("/"))
    return changed


def _backend(project: int, url: str, settings: Settings) -> dict[str, Any]:
    # The title becomes the project's model version, and Label Studio shows, sorts and samples only
    # by the scores of that version.
    title = settings.model_version
    body: dict[str, Any] = {"url": url, "project": project, "title": title, "is_interactive": False}
    if settings.basic_auth_user:
        body |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": settings.basic_auth_user,
            "basic_auth_pass": settings.basic_auth_pass.get_secret_value(),
        }
    return body


def _explain(
    client: LabelStudioClient, project: int, url: str, error: LabelStudioError, report: _Report
) -> None:
    if error.code == SSRF:
        half_made = _row(client.list_rows("/api/ml", project=project), url) is not None
        if half_made:
            report.add(
                "warn",
                "Label Studio created the ML backend but refused its webhook, so new tasks are "
                "not announced. Setting only ML_BLOCK_LOCAL_IP=false causes this.",
            )
        raise error
    lowered = error.message.lower()
    if "can't connect to ml backend" in lowered or "health check failed" in lowered:
        raise LabelStudioError(_UNREACHABLE.format(url=url), code="backend_unreachable") from None
    host = urlsplit(url).hostname or ""
    # For an IPv6 address, some versions and settings of Label Studio answer only "500".
    if "can't resolve hostname" in lowered or ":" in host:
        raise LabelStudioError(
            f"Label Studio finds no IPv4 address for {host}.",
            hint="It reaches no IPv6 addresses: set EACPS_PUBLIC_URL to a name or address that "
            "leads to this backend by IPv4, and EACPS_HOST to that address.",
            code="backend_unreachable",
        ) from None
    if "valid ml backend" in lowered:
        raise LabelStudioError(
            f"The server at {url} is not this backend.",
            hint="Check EACPS_PUBLIC_URL.",
            code="backend_wrong_address",
        ) from None
    raise error


def _check_state(row: Mapping[str, Any], url: str, report: _Report) -> None:
    if row.get("state") in _CONNECTED:
        report.add("ok", f"Label Studio is connected to {url}.")
        return
    told = str(row.get("error_message") or "").strip()
    report.add("fail", _UNREACHABLE.format(url=url) + (f" It says: {told[:300]}" if told else ""))


def _connect_webhook(
    client: LabelStudioClient, project: int, url: str, settings: Settings, report: _Report
) -> None:
    wanted = _webhook(project, f"{url}/webhook", settings)
    rows = client.list_rows("/api/webhooks/", project=project)
    row = _row(rows, wanted["url"])
    if row is None:
        client.call("POST", "/api/webhooks/", json=wanted)
        report.add("changed", "The webhook that announces new tasks was added.")
    elif not _serves(row, wanted):
        client.call("PATCH", f"/api/webhooks/{row['id']}/", json=wanted)
        report.add("changed", "The webhook that announces new tasks was corrected.")
    else:
        report.add("ok", "The webhook that announces new tasks is in place.")


def _add_tabs(client: LabelStudioClient, project: int, settings: Settings, report: _Report) -> None:
    tabs = client.list_rows("/api/dm/views/", project=project)
    there = {(tab.get("data") or {}).get("title") for tab in tabs}
    for tab in tabs_of(settings):
        if tab["title"] in there:
            report.add("ok", f"The Data Manager has the tab “{tab['title']}”.")
            continue
        client.call("POST", "/api/dm/views/", json={"project": project, "data": tab})
        report.add("changed", f"The tab “{tab['title']}” was added to the Data Manager.")


def _remove_webhooks(client: LabelStudioClient, project: int, old_url: str) -> None:
    # Otherwise Label Studio would wait a second for the old address on every event.
    for row in client.list_rows("/api/webhooks/", project=project):
        if str(row.get("url", "")).rstrip("/") == f"{old_url}/webhook":
            client.call("DELETE", f"/api/webhooks/{row['id']}/")


def _webhook(project: int, url: str, settings: Settings) -> dict[str, Any]:
    headers = secret_headers(settings)
    if settings.basic_auth_user:
        password = settings.basic_auth_pass.get_secret_value()
        pair = f"{settings.basic_auth_user}:{password}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return {
        "project": project,
        "url": url,
        "is_active": True,
        "send_payload": True,
        "send_for_all_actions": True,
        "headers": headers,
    }


def _serves(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    same_headers = (row.get("headers") or {}) == wanted["headers"]
    return bool(row.get("send_payload") and same_headers and _announces(row, wanted["url"]))


def _row(rows: list[dict[str, Any]], url: str) -> dict[str, Any] | None:
    return next((row for row in rows if _has_url(row, url)), None)


def _has_url(row: Mapping[str, Any], url: str) -> bool:
    return str(row.get("url", "")).rstrip("/") == url
