"""The password of this backend, and whether it may do without one."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, field

from werkzeug.datastructures import Authorization

from eacps.errors import SettingsError
from eacps.labelstudio.web.addresses import addresses_of, unmapped
from eacps.settings import Settings

log = logging.getLogger(__name__)

OPEN_TO_ALL = (
    "Everybody who can reach this backend may use it, because it has no password. "
    "Set EACPS_BASIC_AUTH_USER and EACPS_BASIC_AUTH_PASS and run `eacps connect` again, or set "
    "EACPS_ALLOW_NO_PASSWORD=true if only Label Studio can reach it."
)


@dataclass(frozen=True)
class Password:
    """A user name and a password; empty if none is needed."""

    user: str
    word: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Password:
        """Those of the settings; raises SettingsError if one of both is missing."""
        user, word = settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()
        if bool(user) != bool(word):
            empty = "EACPS_BASIC_AUTH_PASS" if user else "EACPS_BASIC_AUTH_USER"
            raise SettingsError(
                f"{empty} is empty, so there is only half a password.",
                hint="Set both EACPS_BASIC_AUTH_USER and EACPS_BASIC_AUTH_PASS, or neither.",
            )
        return cls(user, word)

    def __bool__(self) -> bool:
        return bool(self.user)

    def accepts(self, header: str) -> bool:
        """Whether an Authorization header has this password, or none is needed."""
        if not self:
            return True
        sent = Authorization.from_header(header)
        if sent is None:
            return False
        pair, wanted = f"{sent.username}:{sent.password}", f"{self.user}:{self.word}"
        return hmac.compare_digest(pair.encode(), wanted.encode())


def require_password(settings: Settings) -> None:
    """Raise SettingsError for half a password, or none on an address that others can reach."""
    if Password.of(settings) or settings.allow_no_password or is_loopback(settings.host):
        return
    raise SettingsError(
        f"EACPS_HOST is {settings.host or 'empty'}, an address that other machines can reach.",
        hint=OPEN_TO_ALL,
    )


def is_open_to_all(settings: Settings) -> bool:
    """Whether other machines can use this backend without a password, as its settings allow."""
    return not Password.of(settings) and not is_loopback(settings.host)


def warn_of_no_password(settings: Settings) -> None:
    """Log a warning if other machines need no password."""
    if is_open_to_all(settings):
        log.warning(OPEN_TO_ALL)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    # An empty host binds all addresses.
    found = addresses_of(host) if host else set()
    return bool(found) and all(unmapped(each).is_loopback for each in found)
