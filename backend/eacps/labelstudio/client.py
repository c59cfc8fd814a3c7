"""A client for the parts of Label Studio's HTTP API that we use."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import requests

from eacps.errors import SettingsError
from eacps.labelstudio.answers import (
    HOW_TO_AUTHENTICATE,
    MISSING,
    SSRF,
    TOKEN,
    TOO_LARGE,
    busy,
    error_in,
    is_busy,
    is_user,
    json_of,
    not_label_studio,
    temporary,
)
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.settings import Settings, load_settings

__all__ = [
    "MISSING",
    "SSRF",
    "TOO_LARGE",
    "LabelStudioClient",
    "is_personal_access_token",
    "is_server_error",
    "open_client",
]

ACCESS_TOKEN_SECONDS = 240
"""Access tokens are valid for 300 s; they are renewed a minute early."""
_WHOAMI = "/api/current-user/whoami"
is_server_error = is_busy


class LabelStudioClient:
    """A thread-safe client of one user."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 60.0,
        new_key: Callable[[], str] = str,
    ) -> None:
        if not url:
            raise LabelStudioError(
                "No Label Studio is configured.", hint="Set LABEL_STUDIO_URL.", code="no_address"
            )
        self.url = url.rstrip("/")
        self._api_key = api_key.strip()
        self._new_key = new_key
        self._timeout = timeout
        self._access_token = ""
        self._renew_at = 0.0
        self._renewing = threading.Lock()

    def authorization(self) -> dict[str, str]:
        """The header that authenticates requests; must be sent to this Label Studio only."""
        with self._renewing:
            if not self._api_key and not self._take_new_key():
                raise LabelStudioError(
                    "No token for Label Studio is configured.",
                    hint=HOW_TO_AUTHENTICATE,
                    code="no_token",
                )
            if not is_personal_access_token(self._api_key):
                return {"Authorization": f"Token {self._api_key}"}
            if time.monotonic() >= self._renew_at:
                self._access_token = self._refresh_access_token()
                self._renew_at = time.monotonic() + ACCESS_TOKEN_SECONDS
            return {"Authorization": f"Bearer {self._access_token}"}

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API and return JSON; raises LabelStudioDownError or LabelStudioError."""
        response = self._exchange(method, path, **arguments)
        return None if response.status_code == 204 else response.json()

    def whoami(self) -> str:
        """The e-mail address of the token's user, which every version of Label Studio reports."""
        return str(self._record("GET", _WHOAMI, "email")["email"])

    def task(self, task: int) -> dict[str, Any]:
        """A task with its raw data, annotations and predictions.

        An empty PATCH, because GET first requests a prediction from the ML backend, i.e. from this
        program, which would wait for itself, and it also rewrites storage URLs.
        """
        return self._record("PATCH", f"/api/tasks/{task}/", "data", json={})

    def read_task(self, project: int, task: int) -> dict[str, Any] | None:
        """A task of a project with its raw data and annotations, or None. Unlike `task`, this
        writes nothing, and never asks the ML backend."""
        same = {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": task}
        query = {"filters": {"conjunction": "and", "items": [same]}}
        rows = self.list_rows(
            "/api/tasks",
            project=project,
            query=json.dumps(query),
            fields="all",
            resolve_uri="false",
            # A listing for review asks for no predictions.
            review="true",
            page_size=2,
        )
        return next((row for row in rows if row.get("id") == task), None)

    def find_task(self, task: int) -> dict[str, Any] | None:
        """A task, or None if Label Studio itself says twice that it has none."""
        for _ in range(2):
            try:
                return self.task(task)
            except LabelStudioError as error:
                if error.code != MISSING:
                    raise
        return None

    def update_data(self, task: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a task's data; returns the task as stored."""
        return self._record("PATCH", f"/api/tasks/{task}/", "data", json={"data": data})

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """The predictions of a task."""
        return self.list_rows("/api/predictions/", task=task)

    def create_prediction(self, task: int, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """Add a prediction to a task."""
        body = {"task": task, **prediction}
        return self._record("POST", "/api/predictions/", "id", json=body)

    def update_prediction(
        self, number: int, task: int, prediction: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Replace what a prediction of a task says."""
        body = {"task": task, **prediction}
        return self._record("PATCH", f"/api/predictions/{number}/", "id", json=body)

    def delete_prediction(self, prediction: int) -> None:
        """Remove a prediction."""
        self.call("DELETE", f"/api/predictions/{prediction}/")

    def upload(self, project: int, files: Mapping[str, bytes]) -> dict[str, int]:
        """Upload files without creating tasks; returns their upload ids by name."""
        parts = {name: (name, content) for name, content in files.items()}
        path = f"/api/projects/{project}/import?commit_to_project=false"
        reply = self._record("POST", path, "file_upload_ids", files=parts)
        return dict(zip(files, reply["file_upload_ids"], strict=True))

    def uploads(self, project: int, ids: Sequence[int]) -> dict[int, str]:
        """The paths of uploads by id; deleted ones are left out."""
        return self._uploads(project, ids=json.dumps(list(ids)))

    def all_uploads(self, project: int) -> dict[int, str]:
        """The paths of all that this user ever uploaded to a project, by id."""
        return self._uploads(project, all="true")

    def _uploads(self, project: int, **query: str) -> dict[int, str]:
        rows = self.list_rows(f"/api/projects/{project}/file-uploads", **query)
        return {int(row["id"]): f"/data/{row['file']}" for row in rows}

    def project(self, project: int) -> dict[str, Any]:
        """A project's settings."""
        return self._record("GET", f"/api/projects/{project}/", "id")

    def list_rows(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a listing, with or without pagination."""
        response = self._exchange("GET", path, params=parameters)
        body = response.json()
        rows = body.get("results", body.get("tasks", [])) if isinstance(body, dict) else body
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise not_label_studio(self.url, response, self._is_up)
        return rows

    def pages(self, path: str, size: int, **parameters: Any) -> Iterator[list[dict[str, Any]]]:
        """The pages of a listing, until one holds nothing new."""
        seen: set[Any] = set()
        for page in count(1):
            try:
                rows = self.list_rows(path, page=page, page_size=size, **parameters)
            except LabelStudioError as error:
                if error.code != MISSING:
                    raise
                # That is how it says that there are no more.
                return
            if seen.issuperset(row["id"] for row in rows):
                return
            seen.update(row["id"] for row in rows)
            yield rows

    def _record(self, method: str, path: str, field: str, **arguments: Any) -> dict[str, Any]:
        """Call the API for an object, and make sure that it is one: it has this field."""
        response = self._exchange(method, path, **arguments)
        body = json_of(response)
        if not isinstance(body, dict) or field not in body:
            raise not_label_studio(self.url, response, self._is_up)
        return body

    def server_error(self, status: int, message: str, hint: str) -> LabelStudioDownError:
        """The error for a 5xx or 429 status: Label Studio is down, or only this request fails."""
        return busy(status, message, hint, self._is_up)

    def _is_up(self) -> bool:
        try:
            return is_user(self._send("GET", _WHOAMI, headers=self.authorization()))
        except LabelStudioError:
            return False

    def _renew(self) -> bool:
        """Prepare another attempt after a 401; False if there is no other token."""
        with self._renewing:
            if self._take_new_key():
                return True
            # The server may have restarted with another signing key.
            self._renew_at = 0.0
            return is_personal_access_token(self._api_key)

    def _take_new_key(self) -> bool:
        key = self._new_key().strip()
        if key in ("", self._api_key):
            return False
        self._api_key, self._renew_at = key, 0.0
        return True

    def _refresh_access_token(self) -> str:
        path = "/api/token/refresh/"
        response = self._send("POST", path, json={"refresh": self._api_key})
        if response.status_code in (400, 401, 403):
            if self._take_new_key() and is_personal_access_token(self._api_key):
                return self._refresh_access_token()
            raise LabelStudioDownError(
                "Label Studio rejects the personal access token: it has expired or was revoked.",
                hint=HOW_TO_AUTHENTICATE,
                code=TOKEN,
            )
        error = error_in(response, f"POST {path}", self.url, lambda: False)
        access = None if error else json_of(response)
        if not isinstance(access, dict) or "access" not in access:
            raise error or not_label_studio(self.url, response, lambda: False)
        return str(access["access"])

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

    def _exchange(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            response = self._send(method, path, headers=self.authorization(), **arguments)
            if response.status_code == 401 and self._renew():
                response = self._send(method, path, headers=self.authorization(), **arguments)
        except LabelStudioDownError as error:
            # A proxy may cut off a request that it finds too large or too slow, and only that one.
            raise temporary(error.message, error.hint, self._is_up, error.code) from None
        problem = error_in(response, f"{method} {path.split('?', 1)[0]}", self.url, self._is_up)
        if problem is not None:
            raise problem
        return response


def open_client(settings: Settings) -> LabelStudioClient:
    """Create a client from the settings."""
    key = settings.label_studio_api_key.get_secret_value()
    new_key = partial(_current_key, settings)
    return LabelStudioClient(settings.label_studio_url, key, new_key=new_key)


def _current_key(settings: Settings) -> str:
    """The token that the settings name now: `.env` may have changed since this process started."""
    try:
        now = load_settings()
    except SettingsError:
        return ""
    if now.label_studio_url != settings.label_studio_url:
        # Another Label Studio's token, which this one must not see.
        return ""
    return now.label_studio_api_key.get_secret_value()


def is_personal_access_token(token: str) -> bool:
    """Whether a token is a JWT; legacy tokens are hexadecimal."""
    head, *rest = token.split(".")
    if len(rest) != 2:
        return False
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
