"""The password of this backend, and whether it may do without one."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
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
AS_BEFORE = (
    "It is accepted only because version 0.1 made this installation. Version 0.3 will refuse to "
    "start."
)
BOTH_OR_NEITHER = "Set both EACPS_BASIC_AUTH_USER and EACPS_BASIC_AUTH_PASS, or neither."
GENERATED_USER = "label-studio"


@dataclass(frozen=True)
class Password:
    """A user name and a password; empty if none is needed."""

    user: str
    word: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Password:
        """Those of the settings. One of both alone raises SettingsError, except in an installation
        that 0.1 made, where it means what it meant in 0.1."""
        user, word = settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()
        if bool(user) == bool(word):
            return cls(user, word)
        if not has_exception(settings):
            raise SettingsError(half_words(settings), hint=BOTH_OR_NEITHER)
        # 0.1 ignored a password without a user, and took a user without a password literally.
        return cls(user, "")

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
    """Raise SettingsError for half a password, or none on an address that others can reach.
    Installations of 0.1 are excepted until they were started in a safe way."""
    if is_safe(settings) or Password.of(settings) or has_exception(settings):
        return
    raise SettingsError(
        f"EACPS_HOST is {settings.host or 'empty'}, an address that other machines can reach.",
        hint=OPEN_TO_ALL,
    )


def is_safe(settings: Settings) -> bool:
    """Whether the settings say who may use this backend: by a whole password, by an address that
    only this machine reaches, or by EACPS_ALLOW_NO_PASSWORD."""
    if is_half(settings):
        return False
    known = bool(settings.basic_auth_user) or settings.allow_no_password
    return known or is_loopback(settings.host)


def is_half(settings: Settings) -> bool:
    """Whether only one of user name and password is set."""
    return bool(settings.basic_auth_user) != bool(settings.basic_auth_pass.get_secret_value())


def half_words(settings: Settings) -> str:
    """Says which half of the password is missing."""
    empty = "EACPS_BASIC_AUTH_PASS" if settings.basic_auth_user else "EACPS_BASIC_AUTH_USER"
    return f"{empty} is empty, so there is only half a password."


def has_exception(settings: Settings) -> bool:
    """Whether this is an installation of 0.1, which required no password."""
    # DBOS takes a second to import, and most installations need no exception.
    from eacps.jobs.installation import may_lack_password
    from eacps.jobs.outages import outlasting

    return outlasting(may_lack_password)(settings)


def end_exception(settings: Settings) -> None:
    """End the exception of an installation of 0.1 that is started in a safe way."""
    from eacps.jobs.installation import note_secured
    from eacps.jobs.outages import outlasting

    if is_safe(settings):
        outlasting(note_secured)(settings)


def access_warnings(settings: Settings) -> list[str]:
    """What is wrong with the access that `require_password` lets pass, in words."""
    found = []
    if is_half(settings):
        found.append(f"{half_words(settings)} {AS_BEFORE} {BOTH_OR_NEITHER}")
    if not Password.of(settings) and not is_loopback(settings.host):
        found.append(OPEN_TO_ALL if is_safe(settings) else f"{OPEN_TO_ALL} {AS_BEFORE}")
    return found


def generate_password(settings: Settings) -> bool:
    """Write a password to EACPS_BASIC_AUTH_FILE if the file is missing and no password is set;
    returns whether it did. Never in an installation of 0.1, whose Label Studio knows none."""
    from eacps.jobs.installation import made_before_passwords
    from eacps.jobs.outages import outlasting

    path = settings.basic_auth_file
    whole = settings.basic_auth_user or settings.basic_auth_pass.get_secret_value()
    if path is None or whole or path.exists():
        return False
    if outlasting(made_before_passwords)(settings):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{GENERATED_USER}:{secrets.token_urlsafe(18)}\n")
    log.warning(
        "a password was made: user and password are in %s. Run `eacps connect` for each project, "
        "so that Label Studio sends them.",
        path,
    )
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    # An empty host binds all addresses.
    found = addresses_of(host) if host else set()
    return bool(found) and all(unmapped(each).is_loopback for each in found)
