"""What an answer of Label Studio means: decided here and nowhere else.

Between us and Label Studio there may be proxies, which answer in its place: with their own error
pages, with redirects, with a login. Only what Label Studio itself says about a request is final.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from eacps.labelstudio.errors import (
    LabelStudioDownError,
    LabelStudioError,
    LabelStudioRequestFailedError,
)

MISSING: Final = "label_studio_missing"
SSRF: Final = "label_studio_ssrf"
TOO_LARGE: Final = "label_studio_too_large"
TOKEN: Final = "label_studio_token"  # noqa: S105
FORBIDDEN: Final = "label_studio_forbidden"
WRONG_ADDRESS: Final = "label_studio_wrong_address"
HOW_TO_AUTHENTICATE: Final = (
    "Set LABEL_STUDIO_API_KEY to a personal access token (Label Studio: account menu > Personal "
    "Access Token). Legacy tokens are off by default; an administrator can enable them under "
    "Organization > API Tokens Settings."
)
LONGEST_RETRY_AFTER_SECONDS: Final = 600.0
_PROXY: Final = "Look at the proxy in front of Label Studio."
_BUSY: Final = (408, 425, 429)
_NOT_JSON: Final = object()

IsUp = Callable[[], bool]
"""Whether Label Studio itself answers another question, and accepts the token."""


def error_in(
    response: requests.Response, request: str, url: str, is_up: IsUp
) -> LabelStudioError | None:
    """The error that an answer stands for; None if the request succeeded.

    Every error that may pass is a LabelStudioDownError; one that concerns only this request, while
    Label Studio answers others, is a LabelStudioRequestFailedError. All others are final.
    """
    status, body, is_up = response.status_code, json_of(response), cache(is_up)
    if status == 204 or (200 <= status < 300 and body is not _NOT_JSON):
        return None
    if status < 400 or (status == 404 and not (_is_own(body, 404) and is_up())):
        return not_label_studio(url, response, is_up)
    if status in (401, 413):
        token = status == 401
        return _rejected_token(_reason(response), is_up) if token else _too_large(request)
    if is_busy(status):
        message = f"Label Studio answered {status} to {request}."
        return busy(status, message, "See Label Studio's log.", is_up, retry_after(response))
    if not isinstance(body, dict):
        # Label Studio explains its refusals as JSON; this is a proxy's page.
        return temporary(f"A proxy answered {status} to {request}.", _PROXY, is_up)
    return _refusal(status, request, _reason(response), is_up)


def is_busy(status: int) -> bool:
    """Whether a status is about the server and not about the request."""
    return status >= 500 or status in _BUSY


def busy(
    status: int, message: str, hint: str, is_up: IsUp, retry_after: float = 0.0
) -> LabelStudioDownError:
    """The error for a status that is about the server."""
    if status == 429 or retry_after:
        # It asks for fewer requests, so do not add one.
        error = LabelStudioDownError(message, hint=hint)
        error.retry_after = retry_after
        return error
    return temporary(message, hint, is_up)


def temporary(
    message: str, hint: str, is_up: IsUp, code: str | None = None
) -> LabelStudioDownError:
    """The error for what may pass: it concerns either all requests, or only this one."""
    of_this_request = is_up()
    kind = LabelStudioRequestFailedError if of_this_request else LabelStudioDownError
    return kind(message, hint=hint, code=code)


def not_label_studio(url: str, response: requests.Response, is_up: IsUp) -> LabelStudioDownError:
    """The error for an answer that Label Studio did not write."""
    message = f"The server at {url} is not Label Studio."
    if is_up():
        message = f"A proxy in front of {url} answered {response.status_code} in its place."
    hint = "Check LABEL_STUDIO_URL: http or https, port, and path must be exact."
    target = urlsplit(response.headers.get("Location") or "")
    if response.is_redirect and target.hostname:
        # Not followed: the token must not go to another address.
        hint = f"It redirects to {target.scheme or 'http'}://{target.hostname}. {hint}"
    return temporary(message, hint, is_up, WRONG_ADDRESS)


def retry_after(response: requests.Response) -> float:
    """How many seconds the server asks to wait, within reason: a number, or a date."""
    given = response.headers.get("Retry-After", "").strip()
    try:
        if given.isdecimal():
            seconds = float(given)
        else:
            moment = parsedate_to_datetime(given)
            seconds = (moment.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(LONGEST_RETRY_AFTER_SECONDS, max(0.0, seconds))


def json_of(response: requests.Response) -> Any:
    """The JSON of an answer, or something that is no JSON value."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return _NOT_JSON


def is_user(response: requests.Response) -> bool:
    """Whether this is Label Studio's answer to the question who we are."""
    body = json_of(response)
    return response.status_code == 200 and isinstance(body, dict) and "email" in body


def _is_own(body: Any, status: int) -> bool:
    # Label Studio puts its version and the status into every error.
    return isinstance(body, dict) and "version" in body and body.get("status_code") == status


def _rejected_token(reason: str, is_up: IsUp) -> LabelStudioDownError:
    message = f"Label Studio rejects the token: {reason}"
    return temporary(message, HOW_TO_AUTHENTICATE, is_up, TOKEN)


def _too_large(request: str) -> LabelStudioError:
    return LabelStudioError(
        f"A proxy in front of Label Studio refuses {request} as too large (413).",
        hint="Raise its limit for request bodies (nginx: client_max_body_size).",
        code=TOO_LARGE,
    )


def _refusal(status: int, request: str, reason: str, is_up: IsUp) -> LabelStudioError:
    if status == 403 and _is_ssrf(reason):
        return LabelStudioError(
            f"Label Studio refuses to call this backend's address: {reason}",
            hint="Start Label Studio with LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS=false, or give "
            "this backend a public address in EACPS_PUBLIC_URL.",
            code=SSRF,
        )
    if status == 403:
        message = f"Label Studio's user may not {request}."
        return temporary(message, "Use the token of a user who may edit this project.", is_up,
                         FORBIDDEN)  # fmt: skip
    if status == 404:
        return LabelStudioError(
            f"Label Studio has no {request.partition(' ')[2]}.",
            hint="It may have been deleted, or the token's user cannot see it.",
            code=MISSING,
        )
    return LabelStudioError(f"Label Studio answered {status} to {request}: {reason}")


def _is_ssrf(reason: str) -> bool:
    lowered = reason.lower()
    return "reserved network" in lowered or "block:" in lowered or "ssrf" in lowered


def _reason(response: requests.Response) -> str:
    body = json_of(response)
    if body is _NOT_JSON:
        return f"HTTP {response.status_code}."
    parts = [body.get("detail"), body.get("validation_errors")] if isinstance(body, dict) else []
    found = [part if isinstance(part, str) else json.dumps(part) for part in parts if part]
    return (" ".join(found) or json.dumps(body))[:500]
