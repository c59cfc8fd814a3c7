"""What `eacps settings` prints: every setting with its value, where it came from, and its help."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from eacps.settings import (
    CHECKOUT,
    PACKAGE,
    Settings,
    changes_results,
    group_of,
    variable_names,
    variables_of_env_file,
)

_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|(^|_)key$|api_?key")
_PASSWORD_ARGUMENT = re.compile(r"((?:password|secret|key|token)=)[^&]*")


@dataclass(frozen=True)
class SettingRow:
    """One line of `eacps settings`; `aliases` are other variables that set the same."""

    group: str
    variable: str
    value: str
    default: str
    origin: str
    help: str
    changes_results: bool
    aliases: tuple[str, ...] = ()


def settings_table(settings: Settings) -> Iterator[SettingRow]:
    """Every setting with its value (secrets masked), where it came from, and its help."""
    sources: dict[str, Container[str]] = {
        "environment": os.environ,
        ".env": variables_of_env_file(),
    }
    for field, info in Settings.model_fields.items():
        names = variable_names(field)
        value = getattr(settings, field)
        unset = "default" if value == info.default else "argument"
        yield SettingRow(
            group=group_of(info),
            variable=names[0],
            value=_shown(_without_texts(value) if field == "plugin_options" else value),
            default=_shown(info.default).removeprefix(f"{PACKAGE}/").removeprefix(f"{CHECKOUT}/"),
            origin=_origin(names, sources) or unset,
            help=info.description or "",
            changes_results=changes_results(info),
            aliases=names[1:],
        )


def _origin(names: Sequence[str], sources: Mapping[str, Container[str]]) -> str:
    """The strongest source that sets one of these variables, and which; empty: no source does."""
    found = (
        f"{source} ({name})"
        for source, variables in sources.items()
        for name in names
        if name in variables
    )
    return next(found, "")


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return json.dumps(_without_secrets(value), ensure_ascii=False)
    text = str(value)
    if "://" in text and "@" in text:
        scheme, rest = text.split("://", 1)
        text = f"{scheme}://***@{rest.rsplit('@', 1)[1]}"
    return _PASSWORD_ARGUMENT.sub(r"\1***", text)


def _without_secrets(value: Any) -> Any:
    """A table whose entries with telling names are hidden; what is taken from the environment
    names only the variable."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: "***" if is_secret(str(name), entry) else _without_secrets(entry)
        for name, entry in value.items()
    }


def _without_texts(value: Any) -> Any:
    """Plug-ins' options without any text, but for variables' names: which of them are secret is
    said by the plug-ins' own code, which is not asked here."""
    if isinstance(value, Mapping):
        return {name: _without_texts(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_texts(entry) for entry in value]
    return "***" if isinstance(value, str) and value and not value.startswith("$") else value


def is_secret(name: str, value: Any) -> bool:
    """Whether a value's name says that nobody should read it; the name of a variable may be."""
    return (
        isinstance(value, str)
        and bool(value)
        and not value.startswith("$")
        and bool(_SECRET_NAME.search(name))
    )
