"""Which plug-ins the settings put to use, with their options: for `doctor`, `settings` and every
start of a worker. Imports their code; the web process does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eacps.editors.registry import EDITORS, FAMILIES
from eacps.errors import SettingsError
from eacps.faces.readiness import AUTO
from eacps.faces.registry import FACE_ENGINES
from eacps.judge_names import is_judge_name
from eacps.options import Parameter, parameters
from eacps.plugins import OPTIONS, Registry, Source, clashes, label, options_for, written_options
from eacps.scoring import registry as scoring
from eacps.search.registry import STRATEGIES
from eacps.settings import Settings
from eacps.verifiers.language.naming import LanguageVerifier
from eacps.verifiers.registry import FORMATS, VERIFIERS, find_verifier

REGISTRIES: tuple[Registry[Any], ...] = (
    *(STRATEGIES, scoring.SCORERS, VERIFIERS, FORMATS, EDITORS, FAMILIES, FACE_ENGINES),
)


@dataclass(frozen=True)
class PluginInUse:
    """One plug-in that the settings name, or that is used because it is installed."""

    kind: str
    source: Source
    plugin: Any

    @property
    def options(self) -> tuple[Parameter, ...]:
        """What EACPS_PLUGIN_OPTIONS may say for it."""
        declared = getattr(self.plugin, "Options", None)
        return parameters(declared) if declared else ()


def plugins_in_use(settings: Settings) -> Iterator[PluginInUse]:
    """Every plug-in in use that does not come with this package, loaded and checked."""
    for registry, name in _named(settings):
        source = registry.source(name)
        if not source.built_in:
            yield PluginInUse(registry.kind, source, registry.get(name))


def check(settings: Settings) -> None:
    """Raise SettingsError for names that clash, plug-ins that cannot be loaded, and options that
    are wrong or belong to nobody."""
    problems = clashes(REGISTRIES)
    if problems:
        raise SettingsError(problems[0], hint="Remove one of the packages.")
    in_use = list(plugins_in_use(settings))
    known = {name for each in in_use for name in (each.source.name, label(each.source.name))}
    judges = [find_verifier(name, settings) for name in settings.verifiers if is_judge_name(name)]
    for judge in judges:
        if isinstance(judge.plugin, LanguageVerifier):
            judge.plugin.options(settings)
            known |= {judge.name, judge.plugin.judge.label, judge.plugin.judge.service}
    # First, because a misspelt plug-in's options are missing where they belong.
    unknown = sorted(settings.plugin_options.keys() - known)
    if unknown:
        raise SettingsError(
            f"{OPTIONS} has options for {', '.join(map(repr, unknown))}, but no such plug-in is "
            "in use.",
            hint=f"In use: {', '.join(sorted(known)) or 'none'}. Correct {OPTIONS}.",
        )
    for each in in_use:
        if each.kind != STRATEGIES.kind:
            options_for(each.plugin, each.source.name, each.kind, settings)
        elif written_options(each.source.name, settings):
            raise SettingsError(
                f"{OPTIONS} has options for the strategy {each.source.name!r}, which takes "
                "parameters.",
                hint="Put them into EACPS_STRATEGY_PARAMS.",
            )


def _named(settings: Settings) -> Iterator[tuple[Registry[Any], str]]:
    yield STRATEGIES, settings.strategy
    for name in scoring.names(settings):
        yield scoring.SCORERS, name
    for name in settings.verifiers:
        if not is_judge_name(name) and VERIFIERS.knows(name):
            yield VERIFIERS, name
    for name in FORMATS.names():
        yield FORMATS, name
    if EDITORS.knows(settings.editor):
        yield EDITORS, settings.editor
    else:
        for name in FAMILIES.names():
            yield FAMILIES, name
    if settings.face_engine != AUTO:
        yield FACE_ENGINES, settings.face_engine
