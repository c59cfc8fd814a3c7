"""Retrying and cancelling jobs from the status page: only for who has read it in a browser."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit

from flask import Request
from werkzeug.exceptions import Forbidden

from eacps.artifacts import url_secret
from eacps.labelstudio.web.password import Password
from eacps.settings import Settings

log = logging.getLogger(__name__)

_FIELD: Final = "token"
_DAY: Final = 86_400
_PURPOSE: Final = b"eacps status page"


class SameOrigin:
    """Tells requests of the status page's own buttons from those of other pages.

    A browser adds the password to requests of any page. So each button's form has a token, which
    another site cannot read, and what browsers say of a request's origin must agree.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._has_password = bool(Password.of(settings))

    @cached_property
    def _secret(self) -> bytes:
        return hmac.new(url_secret(self._settings), _PURPOSE, hashlib.sha256).digest()

    def token(self) -> str:
        """The token for forms; it is accepted today and tomorrow (in UTC)."""
        return self._token(int(time.time()) // _DAY)

    def _token(self, day: int) -> str:
        signature = hmac.new(self._secret, str(day).encode(), hashlib.sha256).hexdigest()
        return f"{day}.{signature[:40]}"

    def require(self, request: Request) -> None:
        """Raise Forbidden unless the request comes from the status page."""
        today = int(time.time()) // _DAY
        sent = request.form.get(_FIELD, "").encode()
        valid = [self._token(day).encode() for day in (today, today - 1)]
        if not any(hmac.compare_digest(sent, each) for each in valid):
            raise Forbidden("This button is outdated. Reload the status page and try again.")
        self._require_own_page(request)
        self._require_known_name(request)

    def _require_own_page(self, request: Request) -> None:
        fetched_by = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin")
        if fetched_by is not None:
            same = fetched_by == "same-origin"
        else:
            # Browsers say so much on http, too. A program that has a token says nothing.
            own = urlsplit(self._settings.resolved_browser_url).netloc
            same = origin is None or urlsplit(origin).netloc in (request.host, own)
        if not same:
            log.warning("the request of another page was refused: %.80r", origin or fetched_by)
            raise Forbidden("Jobs are changed only by the buttons of the status page.")

    def _require_known_name(self, request: Request) -> None:
        """Without a password, another site could let its own name lead here (DNS rebinding)."""
        if self._has_password:
            return
        name = urlsplit(f"//{request.host}").hostname or ""
        if name in self._names or _is_address(name):
            return
        raise Forbidden(
            f"This backend does not know that it is called {name!r}. Set EACPS_BROWSER_URL to "
            "its address, or set a password."
        )

    @cached_property
    def _names(self) -> set[str]:
        addresses = (self._settings.resolved_public_url, self._settings.resolved_browser_url)
        own = {urlsplit(address).hostname or "" for address in addresses}
        return {"localhost", self._settings.host, *own} - {""}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
