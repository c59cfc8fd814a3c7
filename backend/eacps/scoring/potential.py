"""The potential: the number that ranks candidates, a weighted sum of their metrics.

The potential `eacps`, of the search of that name, is `pf + alpha cons - beta lpips` over raw values
(10 and 3 by default): prompt following, plus consistency with the source, minus perceptual distance
to it. The potential `weighted` is the sum of EACPS_WEIGHTS times metrics, each normalised to 0
(worst) to 1 (best).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from eacps.domain import Metric
from eacps.errors import SettingsError
from eacps.metric_range import MetricRange
from eacps.scoring.registry import known_ranges
from eacps.settings import Settings

UNRELATED = {"cons": 0.55, "lpips": 0.5}
"""The metrics of an image that is unrelated to the source."""
WELL_FOLLOWED = 0.5
"""`pf` of an image that follows its instruction well."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The potential of one candidate, and the metrics that it comes from."""

    value: float | None
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Potential:
    """The sum of weight x metric, over raw metrics (`eacps`) or normalised ones (`weighted`).

    >>> potential = Potential.of(Settings(potential="weighted", weights={"pf": 2}))
    >>> potential.judge({"pf": 0.25, "cons": 0.9}).value
    1.0
    """

    weights: Mapping[str, float]
    ranges: Mapping[str, MetricRange]
    range: tuple[float, float]
    on_raw_values: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The potential that EACPS_POTENTIAL and EACPS_WEIGHTS define."""
        ranges = known_ranges(settings)
        if settings.potential == "eacps":
            weights = {"pf": 1.0, "cons": settings.alpha, "lpips": -settings.beta}
            return cls(weights, ranges, _eacps_range(settings), on_raw_values=True)
        return cls.weighted(settings.weights, ranges)

    @classmethod
    def weighted(
        cls,
        weights: Mapping[str, float],
        ranges: Mapping[str, MetricRange],
        *,
        setting: str = "EACPS_WEIGHTS",
    ) -> Self:
        """A weighted sum of normalised metrics; `setting` is the one that holds the weights."""
        used = _checked(weights, ranges, setting)
        lowest = sum(min(0.0, weight) for weight in used.values())
        highest = sum(max(0.0, weight) for weight in used.values())
        return cls(used, ranges, (lowest, highest))

    def with_metric(self, name: str, weight: float) -> Self:
        """This potential plus another metric, whose weight counts as if it were normalised."""
        if weight == 0:
            return self
        low, high = self.range
        wider = (low + min(0.0, weight), high + max(0.0, weight))
        return replace(self, weights={**self.weights, name: weight}, range=wider)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics that it needs."""
        return tuple(self.weights)

    def judge(self, raw: Mapping[str, float]) -> Judgement:
        """The potential of a candidate from its raw metrics.

        The other metrics make up for those that are missing or not finite.
        """
        finite = {name: float(value) for name, value in raw.items() if math.isfinite(value)}
        missing = [name for name in self.weights if name not in finite]
        present = [name for name in self.weights if name in finite]
        extras = [
            self._metric(name, value) for name, value in finite.items() if name not in present
        ]
        if not present:
            names = ", ".join(self.weights)
            return Judgement(
                None, tuple(extras), (f"All metrics of the potential are missing: {names}.",)
            )
        metrics = self._contributions(finite, present, missing)
        value = math.fsum(metric.contribution for metric in metrics)
        return Judgement(value, (*metrics, *extras), _notes(missing))

    def _contributions(
        self, raw: Mapping[str, float], present: list[str], missing: list[str]
    ) -> list[Metric]:
        # A missing metric counts as being as good as the weighted mean of the others, so that a
        # candidate neither gains nor loses by its absence. A metric with a negative weight is best
        # at 0, and `offset` accounts for that.
        present_weight = sum(abs(self.weights[name]) for name in present)
        missing_weight = sum(abs(self.weights[name]) for name in missing)
        scale = (present_weight + missing_weight) / present_weight
        offset = sum(min(0.0, self.weights[name]) for name in missing)
        metrics = []
        for name in present:
            weight = self.weights[name]
            contribution = weight * scale * self._value(name, raw[name])
            if missing:
                penalty = offset * abs(weight) / present_weight
                contribution += min(0.0, weight) * (1 - scale) + penalty
            metrics.append(self._metric(name, raw[name], weight * scale, contribution))
        return metrics

    def _value(self, name: str, value: float) -> float:
        return value if self.on_raw_values else self.ranges[name].normalised(value)

    def _metric(
        self, name: str, value: float, weight: float = 0.0, contribution: float = 0.0
    ) -> Metric:
        span = self.ranges.get(name, MetricRange(0, 1))
        return Metric(name, value, span.normalised(value), weight, contribution)


def without_effect(settings: Settings) -> tuple[str, ...]:
    """A warning if somebody has set what the potential does not ask for, or nothing."""
    if settings.potential != "eacps":
        return ()
    if "verifier" not in settings.model_fields_set or not settings.verifier:
        return ()
    if "verifier" in settings.scorers:
        return ()
    return (
        "EACPS_VERIFIER has no effect: EACPS_POTENTIAL is eacps. Set EACPS_WEIGHTS to rank by the "
        'verifier, e.g. {"verified": 1}.',
    )


def _eacps_range(settings: Settings) -> tuple[float, float]:
    """The range of the potential `eacps` for real edits: from an image that is unrelated to the
    source, to one that hardly differs from the source and follows the instruction well."""
    low = settings.alpha * UNRELATED["cons"] - settings.beta * UNRELATED["lpips"]
    return low, settings.alpha + WELL_FOLLOWED


def _checked(
    weights: Mapping[str, float], ranges: Mapping[str, MetricRange], setting: str
) -> Mapping[str, float]:
    known = sorted(ranges)
    usual = [name for name in ("pf", "lpips", "identity", "landmarks") if name in ranges][:2]
    example = json.dumps(dict.fromkeys(usual, 1))
    hint = f"Set {setting} to something like {example}; known: {', '.join(known)}."
    unknown = sorted(weights.keys() - ranges.keys())
    if unknown:
        raise SettingsError(f"{setting} names unknown metrics: {', '.join(unknown)}.", hint=hint)
    if not all(math.isfinite(weight) for weight in weights.values()):
        raise SettingsError(f"{setting} contains a weight that is not finite.", hint=hint)
    # Drop tiny weights: they decide nothing, but would be scaled up enormously if the other metrics
    # were missing.
    floor = 1e-6 * max(map(abs, weights.values()), default=0.0)
    used = {name: float(weight) for name, weight in weights.items() if abs(weight) > floor}
    if not used:
        raise SettingsError(f"{setting} gives no metric a weight.", hint=hint)
    return used


def _notes(missing: list[str]) -> tuple[str, ...]:
    if not missing:
        return ()
    verb = "is" if len(missing) == 1 else "are"
    names = ", ".join(missing)
    return (f"{names} {verb} missing; the potential weighs the other metrics more.",)
