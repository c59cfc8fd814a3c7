"""A client for the parts of Label Studio's HTTP API that we use."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from eacps.labelstudio.errors import (
    LabelStudioDownError,
    LabelStudioError,
    LabelStudioRequestFailedError,
)
from eacps.settings import Settings

ACCESS_TOKEN_SECONDS = 240
"""Access tokens are valid for 300 s; they are renewed a minute early."""
MISSING = "label_studio_missing"
SSRF = "label_studio_ssrf"
_HOW_TO_AUTHENTICATE = (
    "Set LABEL_STUDIO_API_KEY to a personal access token (Label Studio: account menu > Personal "
    "Access Token). Legacy tokens are off by default; an administrator can enable them under "
    "Organization > API Tokens Settings."
)


class LabelStudioClient:
    """A thread-safe client of one user."""

    def __init__(self, url: str, api_key: str, *, timeout: float = 60.0) -> None:
        if not url:
            raise LabelStudioError(
                "No Label Studio is configured.", hint="Set LABEL_STUDIO_URL.", code="no_address"
            )
        self.url = url.rstrip("/")
        self._api_key = api_key.strip()
        self._timeout = timeout
        self._access_token = ""
        self._renew_at = 0.0
        self._renewing = threading.Lock()

    def authorization(self) -> dict[str, str]:
        """The header that authenticates requests; must be sent to this Label Studio only."""
        if not self._api_key:
            raise LabelStudioError(
                "No token for Label Studio is configured.",
                hint=_HOW_TO_AUTHENTICATE,
                code="no_token",
            )
        if not is_personal_access_token(self._api_key):
            return {"Authorization": f"Token {self._api_key}"}
        with self._renewing:
            if time.monotonic() >= self._renew_at:
                self._access_token = self._refresh_access_token()
                self._renew_at = time.monotonic() + ACCESS_TOKEN_SECONDS
        return {"Authorization": f"Bearer {self._access_token}"}

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API and return JSON; raises LabelStudioDownError or LabelStudioError."""
        response = self._send(method, path, headers=self.authorization(), **arguments)
        if response.status_code == 401 and self._access_token:
            # The server may have restarted with another signing key.
            self._renew_at = 0.0
            response = self._send(method, path, headers=self.authorization(), **arguments)
        return self._json(method, path, response)

    def whoami(self) -> str:
        """The e-mail address of the token's user, which every version of Label Studio reports."""
        try:
            return str(self.call("GET", "/api/current-user/whoami")["email"])
        except LabelStudioError as error:
            if error.code == MISSING:
                raise self._wrong_address() from None
            raise

    def task(self, task: int) -> dict[str, Any]:
        """A task with its raw data, annotations and predictions.

        An empty PATCH, because GET first requests a prediction from the ML backend, i.e. from this
        program, which would wait for itself, and it also rewrites storage URLs.
        """
        return dict(self.call("PATCH", f"/api/tasks/{task}/", json={}))

    def update_data(self, task: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a task's data; returns the task as stored."""
        return dict(self.call("PATCH", f"/api/tasks/{task}/", json={"data": data}))

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """The predictions of a task."""
        return _rows(self.call("GET", "/api/predictions/", params={"task": task}))

    def create_prediction(self, task: int, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """Add a prediction to a task."""
        return dict(self.call("POST", "/api/predictions/", json={"task": task, **prediction}))

    def delete_prediction(self, prediction: int) -> None:
        """Remove a prediction."""
        self.call("DELETE", f"/api/predictions/{prediction}/")

    def upload(self, project: int, files: Mapping[str, bytes]) -> dict[str, int]:
        """Upload files without creating tasks; returns their upload ids by name."""
        parts = {name: (name, content) for name, content in files.items()}
        path = f"/api/projects/{project}/import?commit_to_project=false"
        reply = self.call("POST", path, files=parts)
        return dict(zip(files, reply["file_upload_ids"], strict=True))

    def uploads(self, project: int, ids: Sequence[int]) -> dict[int, str]:
        """The paths of uploads by id; deleted ones are left out."""
        path = f"/api/projects/{project}/file-uploads"
        rows = _rows(self.call("GET", path, params={"ids": json.dumps(list(ids))}))
        return {int(row["id"]): f"/data/{row['file']}" for row in rows}

    def project(self, project: int) -> dict[str, Any]:
        """A project's settings."""
        return dict(self.call("GET", f"/api/projects/{project}/"))

    def list_rows(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a listing, with or without pagination."""
        return _rows(self.call("GET", path, params=parameters))

    def server_error(self, status: int, message: str, hint: str) -> LabelStudioDownError:
        """The error for a 5xx or 429 status: Label Studio is down, or only this request fails."""
        # Proxies return 502 to 504 if the server is down; a 500 may concern only one task.
        if status == 500 and self._is_up():
            return LabelStudioRequestFailedError(message, hint=hint)
        return LabelStudioDownError(message)

    def _is_up(self) -> bool:
        try:
            path = "/api/current-user/whoami"
            return self._send("GET", path, headers=self.authorization()).ok
        except LabelStudioError:
            return False

    def _refresh_access_token(self) -> str:
        response = self._send("POST", "/api/token/refresh/", json={"refresh": self._api_key})
        if response.status_code in (400, 401, 403):
            raise LabelStudioError(
                "Label Studio rejects the personal access token: it has expired or was revoked.",
                hint=_HOW_TO_AUTHENTICATE,
                code="label_studio_token",
            )
        return str(self._json("POST", "/api/token/refresh/", response)["access"])

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return requests.request(
                method,
                self.url + path,
                timeout=(5, self._timeout),
                allow_redirects=False,
                **arguments,
            )
        except requests.RequestException as error:
            raise LabelStudioDownError(
                f"Label Studio does not answer at {self.url} ({type(error).__name__}).",
                hint="Check that it runs and that LABEL_STUDIO_URL is right.",
            ) from None

    def _json(self, method: str, path: str, response: requests.Response) -> Any:
        if is_server_error(response.status_code):
            message = f"Label Studio answered {response.status_code} to {method} {_place(path)}."
            raise self.server_error(response.status_code, message, "See Label Studio's log.")
        if response.status_code >= 400:
            raise _refusal(method, path, response)
        if response.status_code == 204:
            return None
        try:
            # This also catches redirects, whose body is HTML.
            return response.json()
        except ValueError:
            raise self._wrong_address() from None

    def _wrong_address(self) -> LabelStudioError:
        return LabelStudioError(
            f"The server at {self.url} is not Label Studio.",
            hint="Check LABEL_STUDIO_URL: http or https, port, and path must be exact.",
            code="label_studio_wrong_address",
        )


def open_client(settings: Settings) -> LabelStudioClient:
    """Create a client from the settings."""
    key = settings.label_studio_api_key.get_secret_value()
    return LabelStudioClient(settings.label_studio_url, key)


def is_personal_access_token(token: str) -> bool:
    """Whether a token is a JWT; legacy tokens are hexadecimal."""
    head, *rest = token.split(".")
    if len(rest) != 2:
        return False
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False


def _refusal(method: str, path: str, response: requests.Response) -> LabelStudioError:
    status, reason, place = response.status_code, _reason(response), _place(path)
    if status == 401:
        return LabelStudioError(
            f"Label Studio rejects the token: {reason}",
            hint=_HOW_TO_AUTHENTICATE,
            code="label_studio_token",
        )
    if status == 403 and _is_ssrf(reason):
        return LabelStudioError(
            f"Label Studio refuses to call this backend's address: {reason}",
            hint="Start Label Studio with LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS=false, or give "
            "this backend a public address in EACPS_PUBLIC_URL.",
            code=SSRF,
        )
    if status == 403:
        return LabelStudioError(
            f"Label Studio's user may not {method} {place}.",
            hint="Use the token of a user who may edit this project.",
        )
    if status == 404:
        return LabelStudioError(
            f"Label Studio has no {place}.",
            hint="It may have been deleted, or the token's user cannot see it.",
            code=MISSING,
        )
    return LabelStudioError(f"Label Studio answered {status} to {method} {place}: {reason}")


def is_server_error(status: int) -> bool:
    """Whether a status is about the server and not about the request."""
    return status >= 500 or status == 429


def _place(path: str) -> str:
    return path.split("?", 1)[0]


def _is_ssrf(reason: str) -> bool:
    lowered = reason.lower()
    return "reserved network" in lowered or "block:" in lowered or "ssrf" in lowered


def _reason(response: requests.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return f"HTTP {response.status_code}."
    parts = [body.get("detail"), body.get("validation_errors")] if isinstance(body, dict) else []
    found = [part if isinstance(part, str) else json.dumps(part) for part in parts if part]
    return (" ".join(found) or json.dumps(body))[:500]


def _rows(body: Any) -> list[dict[str, Any]]:
    rows = body.get("results", body.get("tasks", [])) if isinstance(body, dict) else body
    return [dict(row) for row in rows or []]
