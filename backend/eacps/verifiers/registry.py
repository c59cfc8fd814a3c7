"""From what EACPS_VERIFIER names to verifiers: names, or folders with weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eacps.errors import ScoringError, SettingsError
from eacps.plugins import VERIFIERS as GROUP
from eacps.plugins import Context, Registry, label, lacks, loaded, options_for
from eacps.settings import Settings
from eacps.verifiers.protocol import Verifier, VerifierClass

SETTING: Final = "EACPS_VERIFIER"
CONFIG: Final = "config.json"

VERIFIERS: Final = Registry[VerifierClass](
    "verifier",
    group=GROUP,
    setting=SETTING,
    built_ins={},
    problem=lambda verifier: lacks(verifier, "ranges", "judge"),
)
FORMATS: Final = Registry[VerifierClass](
    "verifier format",
    group=f"{GROUP}.formats",
    setting=SETTING,
    built_ins={"eacps-verifier-1": "eacps.demo.verifier.traits:TraitVerifier"},
)
"""Which class reads a folder, by the format that its config.json states."""


@dataclass(frozen=True)
class NamedVerifier:
    """One verifier that is asked for: its name, its class, and its weights' folder if it is one."""

    name: str
    plugin: VerifierClass
    location: str = ""

    @property
    def title(self) -> str:
        """Its name for people."""
        return Path(self.location).name if self.location else label(self.name)

    def load(self, settings: Settings, device: str) -> Verifier:
        """The verifier, ready to judge."""
        options = options_for(self.plugin, self.name, VERIFIERS.kind, settings)
        context = Context(settings, device, options, self.location)
        verifier: Verifier = loaded(self.plugin, context)
        return verifier


def verifiers_of(settings: Settings) -> list[NamedVerifier]:
    """What EACPS_VERIFIER names; loads no weights."""
    return [named(name) for name in settings.verifiers]


def named(name: str) -> NamedVerifier:
    """What one name in EACPS_VERIFIER stands for."""
    if VERIFIERS.knows(name):
        return NamedVerifier(name, VERIFIERS.get(name))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join(VERIFIERS.names())
        raise ScoringError(
            f"{SETTING} names a folder that is not there: {name!r}.",
            hint=f"Set {SETTING} to a folder, {f'{known}, ' if known else ''}`module:Class` or "
            "`file.py:Class`; docs/scoring.md describes them.",
        )
    return NamedVerifier(name, FORMATS.get(_format(folder)), str(folder))


def _format(folder: Path) -> str:
    hint = f"Set {SETTING} to a folder that docs/scoring.md describes."
    try:
        written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["format"]
    except FileNotFoundError:
        raise ScoringError(
            f"The folder of {SETTING}, {str(folder)!r}, has no {CONFIG}.", hint=hint
        ) from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ScoringError(
            f"{folder / CONFIG} does not describe a verifier: {type(error).__name__}: {error}",
            hint=hint,
        ) from error
    if written not in FORMATS.names():
        raise ScoringError(
            f"{folder / CONFIG} is of format {written!r}; this version reads "
            f"{', '.join(map(repr, FORMATS.names()))}.",
            hint=hint,
        )
    return str(written)


def require_verifier(settings: Settings, metric_names: str) -> None:
    """Raise SettingsError where the potential needs a verifier, and there is none."""
    if not settings.verifiers:
        raise SettingsError(
            f"The potential needs a verifier ({metric_names}), but {SETTING} is empty.",
            hint=f"Set {SETTING}, or take these metrics out of EACPS_WEIGHTS.",
        )
