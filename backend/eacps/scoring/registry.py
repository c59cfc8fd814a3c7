"""The known scorers and their metrics; opens only the scorers that are needed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from eacps.errors import SettingsError
from eacps.metric_range import MetricRange
from eacps.plugins import SCORERS as GROUP
from eacps.plugins import Context, Registry, lacks, loaded, options_for
from eacps.scoring.protocol import Scorer, ScorerClass
from eacps.settings import Settings

SCORERS: Final = Registry[ScorerClass](
    "scorer",
    group=GROUP,
    setting="EACPS_SCORERS",
    built_ins={
        "clip": "eacps.scoring.clip:ClipScorer",
        "lpips": "eacps.scoring.lpips:LpipsScorer",
        "region": "eacps.scoring.region:RegionScorer",
        "technical": "eacps.scoring.technical:TechnicalScorer",
        "aesthetic": "eacps.scoring.aesthetic:AestheticScorer",
        "identity": "eacps.faces.identity:IdentityScorer",
        "verifier": "eacps.verifiers.scorer:VerifierScorer",
    },
    problem=lambda scorer: lacks(scorer, "ranges", "score"),
)


def names(settings: Settings) -> tuple[str, ...]:
    """The names of all scorers: built-in, installed, and added by EACPS_SCORERS."""
    added = (name for name in settings.scorers if name not in SCORERS.names())
    return (*SCORERS.names(), *dict.fromkeys(added))


def known_ranges(settings: Settings) -> dict[str, MetricRange]:
    """The range of every known metric; raises SettingsError if two scorers share a metric."""
    ranges: dict[str, MetricRange] = {}
    owners: dict[str, str] = {}
    for name, scorer in _scorers(settings):
        for metric, span in ranges_of(scorer, settings).items():
            if metric in owners:
                raise SettingsError(
                    f"Two scorers measure {metric!r}: {_described(owners[metric])} and "
                    f"{_described(name)}.",
                    hint="Rename the metric of your scorer in EACPS_SCORERS, or make it a verifier "
                    "(EACPS_VERIFIER) if it answers the same question.",
                )
            owners[metric], ranges[metric] = name, span
    return ranges


def ranges_of(scorer: ScorerClass, settings: Settings) -> Mapping[str, MetricRange]:
    """The metrics of one scorer under these settings."""
    own: Any = getattr(scorer, "metric_ranges", None)
    found: Mapping[str, MetricRange] = own(settings) if own else scorer.ranges
    return found


def open_scorers(
    settings: Settings, device: str, metric_names: Collection[str]
) -> Sequence[Scorer]:
    """Load the scorers that these metrics need, those that EACPS_SCORERS names, and those that
    always run."""
    return [open_scorer(name, settings, device) for name, _ in _opened(settings, metric_names)]


def metrics_of_opened(settings: Settings, metric_names: Collection[str]) -> frozenset[str]:
    """The metrics of the scorers that `open_scorers` loads."""
    opened = _opened(settings, metric_names)
    return frozenset(name for _, scorer in opened for name in ranges_of(scorer, settings))


def open_scorer(name: str, settings: Settings, device: str) -> Scorer:
    """Load one scorer."""
    plugin = SCORERS.get(name)
    options = options_for(plugin, name, SCORERS.kind, settings)
    scorer: Scorer = loaded(plugin, Context(settings, device, options))
    return scorer


def _scorers(settings: Settings) -> Iterator[tuple[str, ScorerClass]]:
    for name in names(settings):
        yield name, SCORERS.get(name)


def _opened(settings: Settings, metric_names: Collection[str]) -> Iterator[tuple[str, ScorerClass]]:
    for name, scorer in _scorers(settings):
        if name in settings.scorers or _is_wanted(scorer, settings, metric_names):
            yield name, scorer


def _is_wanted(scorer: ScorerClass, settings: Settings, metric_names: Collection[str]) -> bool:
    if set(metric_names) & ranges_of(scorer, settings).keys():
        return True
    wanted: Any = getattr(scorer, "wanted", None)
    return bool(wanted and wanted(settings, metric_names))


def _described(name: str) -> str:
    return f"{name!r} ({SCORERS.source(name).origin})"
