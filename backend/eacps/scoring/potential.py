"""The number that ranks: a weighted sum of metrics, with every contribution on show."""

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

EACPS_WEIGHTS: Mapping[str, float] = {"pf": 1.0, "cons": 10.0, "lpips": -3.0}
EACPS_RANGE = (4.0, 10.5)
"""Where potentials `eacps` of real edits lie: from an image that has nothing to do with the source
to one that hardly differs from it and follows the instruction well."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One candidate's potential, and how it came about."""

    value: float | None
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Potential:
    """U = sum of weight x metric, over raw metrics (`eacps`) or normalised ones (`weighted`).

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
        """The potential that EACPS_POTENTIAL and EACPS_WEIGHTS ask for, over all scorers'
        metrics."""
        ranges = known_ranges(settings)
        if settings.potential == "eacps":
            return cls(EACPS_WEIGHTS, ranges, EACPS_RANGE, on_raw_values=True)
        return cls.weighted(settings.weights, ranges)

    @classmethod
    def weighted(
        cls,
        weights: Mapping[str, float],
        ranges: Mapping[str, MetricRange],
        *,
        setting: str = "EACPS_WEIGHTS",
    ) -> Self:
        """A weighted sum of normalised metrics; `setting` is where the weights come from."""
        used = _checked(weights, ranges, setting)
        lowest = sum(min(0.0, weight) for weight in used.values())
        highest = sum(max(0.0, weight) for weight in used.values())
        return cls(used, ranges, (lowest, highest))

    def and_also(self, name: str, weight: float) -> Self:
        """The same with one metric more, weighed as if it were normalised."""
        if weight == 0:
            return self
        low, high = self.range
        wider = (low + min(0.0, weight), high + max(0.0, weight))
        return replace(self, weights={**self.weights, name: weight}, range=wider)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        return tuple(self.weights)

    def judge(self, raw: Mapping[str, float]) -> Judgement:
        """The potential of a candidate from its raw metrics; what is missing or not a number is
        made up for by the rest."""
        finite = {name: float(value) for name, value in raw.items() if math.isfinite(value)}
        missing = [name for name in self.weights if name not in finite]
        present = [name for name in self.weights if name in finite]
        extras = [
            self._metric(name, value) for name, value in finite.items() if name not in present
        ]
        if not present:
            names = ", ".join(self.weights)
            return Judgement(
                None, tuple(extras), (f"No metric of the potential is there: {names}.",)
            )
        metrics = self._weighed(finite, present, missing)
        value = math.fsum(metric.contribution for metric in metrics)
        return Judgement(value, (*metrics, *extras), _notes(missing))

    def _weighed(
        self, raw: Mapping[str, float], present: list[str], missing: list[str]
    ) -> list[Metric]:
        # A missing metric is taken to be as good as the weighted mean of the others, so that a
        # candidate neither gains nor loses by its absence. A negative weight is a penalty: no
        # penalty at all is as good as it gets, which is what `offset` accounts for.
        there = sum(abs(self.weights[name]) for name in present)
        gone = sum(abs(self.weights[name]) for name in missing)
        scale = (there + gone) / there
        offset = sum(min(0.0, self.weights[name]) for name in missing)
        metrics = []
        for name in present:
            weight = self.weights[name]
            contribution = weight * scale * self._scored(name, raw[name])
            if missing:
                contribution += min(0.0, weight) * (1 - scale) + offset * abs(weight) / there
            metrics.append(self._metric(name, raw[name], weight * scale, contribution))
        return metrics

    def _scored(self, name: str, value: float) -> float:
        return value if self.on_raw_values else self.ranges[name].normalised(value)

    def _metric(
        self, name: str, value: float, weight: float = 0.0, contribution: float = 0.0
    ) -> Metric:
        span = self.ranges.get(name, MetricRange(0, 1))
        return Metric(name, value, span.normalised(value), weight, contribution)


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
        raise SettingsError(f"{setting} holds a weight that is no number.", hint=hint)
    # A weight far below the others decides nothing, but would be scaled up beyond all bounds
    # where they are missing.
    floor = 1e-6 * max(map(abs, weights.values()), default=0.0)
    used = {name: float(weight) for name, weight in weights.items() if abs(weight) > floor}
    if not used:
        raise SettingsError(f"{setting} weighs nothing.", hint=hint)
    return used


def _notes(missing: list[str]) -> tuple[str, ...]:
    if not missing:
        return ()
    verb = "is" if len(missing) == 1 else "are"
    names = ", ".join(missing)
    return (f"{names} {verb} missing; the potential comes from the other metrics, weighted up.",)
