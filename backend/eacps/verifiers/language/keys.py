"""Keys and addresses of servers: from the environment, `.env` or a file, and nowhere else."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from eacps.errors import SettingsError
from eacps.settings import variables_of_env_file
from eacps.verifiers.language.services.contract import Service

log = logging.getLogger(__name__)

HIDDEN: Final = "[key]"
_FILE: Final = "_FILE"


def find_key(
    service: Service, given: SecretStr, file: str, address: str, *, required: bool
) -> SecretStr:
    """The key of a service: given, or in a file, or in its variable or the file it names.

    A variable's key belongs to the address that the environment names, or the service's own, and
    is not sent to another server.
    """
    if given.get_secret_value():
        return _checked(given.get_secret_value(), "The key")
    if file:
        return _from_file(file, "api_key_file")
    if _origin(address) != _origin(owner := find_address(service, "")):
        _say_if_unsent(service, address, owner)
        return SecretStr("")
    for variable in service.key_variables:
        if value := _variable(variable):
            return _checked(value, variable)
        if path := _variable(variable + _FILE):
            return _from_file(path, variable + _FILE)
    if required:
        raise SettingsError(
            f"The judge {service.name}:… needs a key, and {service.key_variables[0]} is not set.",
            hint=f"Set {service.key_variables[0]}, or {service.key_variables[0]}{_FILE} to a file "
            "that contains it, for the workers.",
        )
    return SecretStr("")


def find_address(service: Service, given: str) -> str:
    """The address of a service: given, or in its variable, or the service's own."""
    address = given or _first(service.address_variables) or service.default_address
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"The address of the judge {service.name}:… is wrong: {_shown(address)!r}.",
            hint="Write http://host:port/… or https://….",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(
            f"The address of the judge {service.name}:… has a password, a query or a fragment.",
            hint=f"Remove it, and put the key into {service.key_variables[0]}.",
        )
    return address.rstrip("/")


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port


def _say_if_unsent(service: Service, address: str, owner: str) -> None:
    for variable in service.key_variables:
        if _variable(variable) or _variable(variable + _FILE):
            log.warning(
                "%s is not sent to %s, because it belongs to %s. Set the option api_key or "
                "api_key_file of the judge if this server needs a key.",
                variable,
                address,
                owner,
            )


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret replaced: a server may quote the key that it was sent."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, HIDDEN)
    return text


def _first(variables: Sequence[str]) -> str:
    return next((value for name in variables if (value := _variable(name))), "")


def _variable(name: str) -> str:
    """A variable of the environment, or of `.env`, as settings are read."""
    if name in os.environ:
        return os.environ[name].strip()
    return (variables_of_env_file().get(name) or "").strip()


def _from_file(path: str, what: str) -> SecretStr:
    try:
        content = Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            f"{what} names the file {path[:200]}, which cannot be read: {reason}.",
            hint="Let this user read it, or correct the path.",
        ) from None
    if not content:
        raise SettingsError(f"{what} names the file {path[:200]}, which is empty.")
    return _checked(content, what)


def _checked(value: str, what: str) -> SecretStr:
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise SettingsError(f"{what} contains characters that no key has.")
    return SecretStr(value)


def _shown(address: str) -> str:
    """An address without what stands before its @, which may be a password."""
    return address.rpartition("@")[2][:200]
