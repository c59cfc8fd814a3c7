"""Which scorer yields which metrics; only the needed ones are opened."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol

from eacps.errors import SettingsError
from eacps.metric_range import MetricRange
from eacps.scoring.protocol import Scorer
from eacps.settings import Settings

ENTRY_POINT_GROUP: Final = "eacps.scorers"


class ScorerClass(Protocol):
    """A scorer's class: what it measures is known before it is opened."""

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The metrics that it yields, with their ranges."""

    def open(self, settings: Settings, device: str) -> Scorer:
        """Load what it needs onto the device."""

    def free(self, settings: Settings, metric_names: Collection[str]) -> bool:
        """Whether it costs next to nothing beside the scorers of those metrics."""


SCORERS: Final = (
    "eacps.scoring.clip:ClipScorer",
    "eacps.scoring.lpips:LpipsScorer",
    "eacps.scoring.region:RegionScorer",
    "eacps.verifiers.scorer:VerifierScorer",
)


def scorers() -> tuple[ScorerClass, ...]:
    """Every scorer's class: the built-in ones first."""
    others = (_loaded(point) for point in entry_points(group=ENTRY_POINT_GROUP))
    return (*map(_built_in, SCORERS), *others)


def _built_in(name: str) -> ScorerClass:
    module, _, member = name.partition(":")
    scorer: ScorerClass = getattr(import_module(module), member)
    return scorer


def known_ranges() -> dict[str, MetricRange]:
    """Every metric that some scorer yields, with its range."""
    return {name: span for scorer in reversed(scorers()) for name, span in scorer.ranges.items()}


def open_scorers(
    settings: Settings, device: str, metric_names: Collection[str]
) -> Sequence[Scorer]:
    """The scorers that the metrics need, and those that come for free beside them."""
    chosen = [scorer for scorer in scorers() if set(metric_names) & scorer.ranges.keys()]
    others = [scorer for scorer in scorers() if scorer not in chosen]
    free = [scorer for scorer in others if scorer.free(settings, metric_names)]
    return [scorer.open(settings, device) for scorer in (*chosen, *free)]


def _loaded(point: EntryPoint) -> ScorerClass:
    try:
        scorer = point.load()
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise SettingsError(
            f"The scorer '{point.name}' ({point.value}) could not be loaded: {error!r}.",
            hint="Repair or remove the package that brings it.",
        ) from error
    if not all(hasattr(scorer, name) for name in ("ranges", "open", "free")):
        raise SettingsError(
            f"The scorer '{point.name}' ({point.value}) lacks `ranges`, `open` or `free`.",
            hint="Repair or remove the package that brings it.",
        )
    return scorer  # type: ignore[no-any-return]
