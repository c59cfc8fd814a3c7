"""Finds the verifiers that EACPS_VERIFIER names: classes, or folders with weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eacps.errors import ScoringError, SettingsError
from eacps.judge_names import FORMS, judge_name
from eacps.plugins import VERIFIER_FORMATS as FORMAT_GROUP
from eacps.plugins import VERIFIERS as GROUP
from eacps.plugins import Context, Registry, label, lacks, loaded, options_for
from eacps.settings import Settings
from eacps.verifiers.language.naming import LanguageVerifier, language_verifier
from eacps.verifiers.protocol import Verifier, VerifierClass
from eacps.weights import existing_path

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
    group=FORMAT_GROUP,
    setting=SETTING,
    built_ins={"eacps-verifier-1": "eacps.demo.verifier.traits:TraitVerifier"},
)
"""The class that reads a folder, by the `format` in its config.json."""


@dataclass(frozen=True)
class NamedVerifier:
    """A verifier in EACPS_VERIFIER: the name of its class, its class, and the folder of its
    weights, if any; of a folder the name is its format."""

    name: str
    plugin: VerifierClass | LanguageVerifier
    location: str = ""

    @property
    def written(self) -> str:
        """What EACPS_VERIFIER says."""
        return self.location or self.name

    @property
    def title(self) -> str:
        """The name to show to people."""
        if isinstance(self.plugin, LanguageVerifier):
            return self.plugin.judge.label
        return Path(self.location).name if self.location else label(self.name)

    def load(self, settings: Settings, device: str) -> Verifier:
        """Load the verifier."""
        if isinstance(self.plugin, LanguageVerifier):
            return self.plugin.load(Context(settings, device))
        options = options_for(self.plugin, self.name, VERIFIERS.kind, settings)
        context = Context(settings, device, options, self.location)
        verifier: Verifier = loaded(self.plugin, context)
        return verifier


def verifiers_of(settings: Settings) -> list[NamedVerifier]:
    """The verifiers in EACPS_VERIFIER; loads no weights."""
    return [find_verifier(name, settings) for name in settings.verifiers]


def find_verifier(name: str, settings: Settings) -> NamedVerifier:
    """The verifier for one name in EACPS_VERIFIER."""
    judge = judge_name(name)
    if judge is not None:
        return NamedVerifier(name, language_verifier(name, judge, settings))
    if VERIFIERS.knows(name):
        return NamedVerifier(name, VERIFIERS.get(name))
    folder = existing_path(name)
    if folder is None or not folder.is_dir():
        known = ", ".join(VERIFIERS.names())
        raise ScoringError(
            f"{SETTING} names a folder that does not exist: {name!r}.",
            hint=f"Set {SETTING} to a folder, {f'{known}, ' if known else ''}`module:Class`, "
            f"`file.py:Class`, {FORMS}.",
        )
    written = _format(folder)
    return NamedVerifier(written, FORMATS.get(written), str(folder))


def _format(folder: Path) -> str:
    hint = (
        f"Set {SETTING} to a folder whose {CONFIG} names its `format`, one of: "
        f"{', '.join(FORMATS.names())}."
    )
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
            f"{folder / CONFIG} has the format {written!r}; this version reads "
            f"{', '.join(map(repr, FORMATS.names()))}.",
            hint=hint,
        )
    return str(written)


def require_verifier(settings: Settings, metric_names: str) -> None:
    """Raise SettingsError if the potential needs a verifier and EACPS_VERIFIER is empty."""
    if not settings.verifiers:
        raise SettingsError(
            f"The potential needs a verifier ({metric_names}), but {SETTING} is empty.",
            hint=f"Set {SETTING}, or remove these metrics from EACPS_WEIGHTS.",
        )
