"""The capability in a task's data: whoever has it may use the panel of this one task.

It does not expire, because a task's data is written once. It is signed by a secret of this backend,
and a moment from which on it is refused can be stored for a task, a project or all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from eacps.artifacts import url_secret
from eacps.domain import digest
from eacps.errors import EacpsError
from eacps.labelstudio.cards.contract import PANEL
from eacps.labelstudio.tasks.regions import mapping
from eacps.settings import Settings

_FORM: Final = re.compile(
    r"(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})\.([1-9][0-9]{12,14})\.([A-Za-z0-9_-]{43})"
)
_LONGEST: Final = 120
_PURPOSE: Final = "eacps panel 1"


class PanelRefusedError(EacpsError):
    """The panel may not be used; the message tells people why."""

    code = "panel_refused"

    def __init__(self, message: str, *, code: str, status: int = 404) -> None:
        super().__init__(message, code=code)
        self.status = status


@dataclass(frozen=True, slots=True)
class Capability:
    """The right to use one task's panel; `issued` is in milliseconds since the epoch."""

    project: int
    task: int
    issued: int


class PanelKeys:
    """Issues and reads capabilities. The first secret signs, all are accepted."""

    def __init__(self, secrets: Sequence[bytes], label_studio: str) -> None:
        self._secrets = tuple(secrets)
        self._label_studio = label_studio

    def issue(self, project: int, task: int, moment: float) -> str:
        """The text of a new capability."""
        capability = Capability(project, task, int(moment * 1000))
        return f"{_plain(capability)}.{self._signature(self._secrets[0], capability)}"

    def read(self, text: Any) -> Capability | None:
        """The capability that this text is, or None if none of our secrets signed it."""
        found = _FORM.fullmatch(text) if isinstance(text, str) and len(text) <= _LONGEST else None
        if found is None:
            return None
        capability = Capability(int(found[1]), int(found[2]), int(found[3]))
        # All are compared, so that the time tells nothing about which one signed.
        good = [
            hmac.compare_digest(found[4], self._signature(secret, capability))
            for secret in self._secrets
        ]
        return capability if any(good) else None

    def mark(self, capability: Capability, name: str) -> str:
        """The signature of a picture's name in the panel of a task."""
        content = f"picture {capability.project}.{capability.task} {name}"
        return self._signed(self._secrets[0], content)[:24]

    def has_mark(self, capability: Capability, name: str, mark: str) -> bool:
        """Whether this is the mark of that picture."""
        return hmac.compare_digest(mark.encode(), self.mark(capability, name).encode())

    def _signature(self, secret: bytes, capability: Capability) -> str:
        return self._signed(secret, f"capability {_plain(capability)}")

    def _signed(self, secret: bytes, content: str) -> str:
        whole = f"{_PURPOSE}\n{self._label_studio}\n{content}"
        made = hmac.new(secret, whole.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(made).decode().rstrip("=")


def open_keys(settings: Settings) -> PanelKeys:
    """The keys of the settings."""
    given = settings.panel_secrets.get_secret_value().split(",")
    secrets = [word.strip().encode() for word in given if word.strip()]
    return PanelKeys(secrets or [_derived(url_secret(settings))], settings.label_studio_url)


def wanted(keys: PanelKeys, data: Any, project: int, task: int, moment: float) -> Mapping[str, str]:
    """The field with a capability that a task's data needs; empty if it has one.

    A capability that was revoked stays, because only `eacps panel renew` ends a revocation. One of
    another task, as in a copy of a task, is replaced. What was not written by us is left alone.
    """
    held = mapping(data).get(PANEL)
    if held not in (None, "") and not is_capability(held):
        return {}
    known = keys.read(held)
    if known and (known.project, known.task) == (project, task):
        return {}
    return {PANEL: keys.issue(project, task, moment)}


def is_capability(value: Any) -> bool:
    """Whether this has the form of a capability, whoever signed it."""
    return isinstance(value, str) and bool(_FORM.fullmatch(value))


def scopes_of(label_studio: str, *, project: int, task: int) -> tuple[str, ...]:
    """The scopes whose revocation ends a capability."""
    return (
        scope(label_studio),
        scope(label_studio, project=project),
        scope(label_studio, task=task),
    )


def scope(label_studio: str, *, project: int | None = None, task: int | None = None) -> str:
    """What is revoked: all panels of a Label Studio, or those of a project or of a task."""
    what = "all"
    if project is not None:
        what = f"project-{project}"
    elif task is not None:
        what = f"task-{task}"
    return f"panel {digest(label_studio)} {what}"


def require_not_revoked(capability: Capability, moments: Mapping[str, float]) -> None:
    """Raise PanelRefusedError if a revocation came after the capability."""
    latest = max(moments.values(), default=0.0)
    if capability.issued > latest * 1000:
        return
    when = datetime.fromtimestamp(latest, UTC)
    raise PanelRefusedError(
        f"This panel was closed on {when:%d %B %Y at %H:%M} (UTC). Whoever runs the backend can "
        "open it again.",
        code="panel_revoked",
        status=403,
    )


def _plain(capability: Capability) -> str:
    return f"{capability.project}.{capability.task}.{capability.issued}"


def _derived(secret: bytes) -> bytes:
    return hmac.new(secret, _PURPOSE.encode(), hashlib.sha256).digest()
