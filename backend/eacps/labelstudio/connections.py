"""What of a Label Studio project connects it to this backend: its ML backend, its webhook."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Literal

from eacps.errors import EacpsError
from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.webhook_secret import secret_headers
from eacps.settings import Settings

OUR_TITLE = re.compile(r"[A-Za-z0-9_]+-[0-9a-f]{10}")
SWALLOWS_MARKS = (
    "Interactive pre-annotations, which take away the marks that annotators draw with "
    "Auto-Annotation on,"
)
CONNECTED = ("CO", "PR", "TR")
UNREACHABLE = (
    "Label Studio cannot reach this backend at {url}. Start it (`eacps serve`), and set "
    "EACPS_PUBLIC_URL to an address that works from where Label Studio runs (inside Docker, "
    "127.0.0.1 is the container itself)."
)
DIAGNOSED_PROJECTS = 30
_PROJECTS_PER_PAGE = 100
Diagnosis = Literal["ok", "warn", "fail"]


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
        row = row_of(client.list_rows("/api/ml", project=project["id"]), url)
        if row is None:
            continue
        connected = True
        name = f"project {project['id']} “{project.get('title')}”"
        hook = row_of(client.list_rows("/api/webhooks/", project=project["id"]), f"{url}/webhook")
        if row.get("state") not in CONNECTED:
            yield "fail", f"{name}: {UNREACHABLE.format(url=url)}"
        elif row.get("is_interactive"):
            yield "warn", f"{name}: {SWALLOWS_MARKS} are on: run `eacps connect` again"
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
        if OUR_TITLE.fullmatch(str(project.get("model_version"))):
            # Asked only for projects that may be ours: it makes Label Studio call its backends.
            backends = client.list_rows("/api/ml", project=project["id"])
            rows += [row for row in backends if has_url(row, url)]
        moments = [_moment(row["created_at"]) for row in rows if row.get("created_at")]
        if moments:
            yield project, min(moments)


def _moment(value: Any) -> float:
    return datetime.fromisoformat(str(value)).timestamp()


def _announces(row: Mapping[str, Any], url: str) -> bool:
    announced = row.get("send_for_all_actions") or "TASKS_CREATED" in (row.get("actions") or [])
    return bool(has_url(row, url) and row.get("is_active") and announced)


def backend_body(
    project: int, url: str, settings: Settings, version: str = "", extra_params: Any = None
) -> dict[str, Any]:
    """The ML backend of a project, as Label Studio's API takes it; `version` is that of the
    project's results if it has settings of its own."""
    # The title becomes the project's model version, and Label Studio shows, sorts and samples only
    # by the scores of that version.
    title = version or settings.model_version
    body: dict[str, Any] = {"url": url, "project": project, "title": title, "is_interactive": False}
    if extra_params is not None:
        # Without them, Label Studio would set the backend up as if it had none.
        body |= {"extra_params": extra_params}
    if settings.basic_auth_user:
        body |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": settings.basic_auth_user,
            "basic_auth_pass": settings.basic_auth_pass.get_secret_value(),
        }
    return body


def webhook_body(project: int, url: str, settings: Settings) -> dict[str, Any]:
    """The webhook that announces a project's new tasks, as Label Studio's API takes it."""
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


def serves(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a webhook does all that the wanted one does."""
    same_headers = (row.get("headers") or {}) == wanted["headers"]
    return bool(row.get("send_payload") and same_headers and _announces(row, wanted["url"]))


def row_of(rows: Sequence[Mapping[str, Any]], url: str) -> Mapping[str, Any] | None:
    """The first row with this address."""
    return next((row for row in rows if has_url(row, url)), None)


def has_url(row: Mapping[str, Any], url: str) -> bool:
    """Whether a row has this address."""
    return str(row.get("url", "")).rstrip("/") == url
