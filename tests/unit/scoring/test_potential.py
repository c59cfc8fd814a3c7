"""The potential: its value, its contributions, and what it does when metrics are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eacps.errors import SettingsError
from eacps.scoring import Potential
from eacps.settings import DEMO_PACK, Settings, load_settings

NAMES = ("pf", "pf_dir", "cons", "lpips", "region")
values = st.dictionaries(st.sampled_from(NAMES), st.floats(-1, 1))
weights = st.dictionaries(st.sampled_from(NAMES), st.floats(-5, 5), min_size=1).filter(
    lambda given: any(abs(weight) > 1e-3 for weight in given.values())
)


def weighted(**weights: float) -> Potential:
    return of(potential="weighted", weights=weights)


def of(**changes: Any) -> Potential:
    return Potential.of(Settings(_env_file=None, **changes))


def value(potential: Potential, raw: Mapping[str, float]) -> float:
    """The potential if there are metrics."""
    found = potential.judge(raw).value
    assert found is not None
    return found


def test_the_potential_eacps_is_pf_plus_10_cons_minus_3_lpips() -> None:
    judged = of().judge({"pf": 0.3, "cons": 0.9, "lpips": 0.2})
    assert judged.value == pytest.approx(0.3 + 10 * 0.9 - 3 * 0.2)
    assert {m.name: m.weight for m in judged.metrics} == {"pf": 1, "cons": 10, "lpips": -3}
    assert not judged.notes


def test_weighted_sums_normalised_metrics_where_higher_is_better() -> None:
    potential = weighted(pf=2, lpips=1)
    assert potential.judge({"pf": 0.5, "lpips": 0}).value == pytest.approx(3)
    assert potential.range == (0, 3)
    better, worse = ({"pf": 0.3, "lpips": lpips} for lpips in (0.1, 0.4))
    assert value(potential, better) > value(potential, worse)


def test_metrics_outside_the_potential_are_shown_without_weight() -> None:
    judged = of().judge({"pf": 0.3, "cons": 0.9, "lpips": 0.2, "region": 0.7, "aesthetic": 0.5})
    shown = {metric.name: metric for metric in judged.metrics}
    assert [metric.name for metric in judged.metrics][:3] == ["pf", "cons", "lpips"]
    assert (shown["region"].weight, shown["region"].contribution) == (0, 0)
    assert shown["region"].normalised == pytest.approx(0.7)
    assert shown["aesthetic"].value == 0.5


@given(raw=values, chosen=weights)
def test_contributions_add_up_to_the_potential(
    raw: Mapping[str, float], chosen: Mapping[str, float]
) -> None:
    for potential in (of(), weighted(**chosen)):
        judged = potential.judge(raw)
        if judged.value is None:
            assert not set(potential.metric_names) & raw.keys()
            continue
        assert math.isfinite(judged.value)
        total = sum(metric.contribution for metric in judged.metrics)
        assert total == pytest.approx(judged.value, abs=1e-9)


@given(raw=st.fixed_dictionaries(dict.fromkeys(NAMES, st.floats(0, 1))), chosen=weights)
def test_raising_a_metric_moves_the_potential_in_the_direction_of_its_weight(
    raw: dict[str, float], chosen: Mapping[str, float]
) -> None:
    potential = weighted(**chosen)
    before = value(potential, raw)
    for name, weight in potential.weights.items():
        raised = raw | {name: raw[name] + 0.25}
        gain = value(potential, raised) - before
        better = -1 if name == "lpips" else 1
        assert gain * weight * better >= 0
        assert gain or abs(weight) < 1e-9


@given(chosen=weights, quality=st.floats(0, 1), data=st.data())
def test_a_missing_metric_neither_helps_nor_hurts_an_even_candidate(
    chosen: Mapping[str, float], quality: float, data: st.DataObject
) -> None:
    potential = weighted(**chosen)
    raw = {}
    for name, weight in potential.weights.items():
        span = potential.ranges[name]
        goodness = quality if weight > 0 else 1 - quality
        raw[name] = span.worst + goodness * (span.best - span.worst)
    kept = data.draw(st.sets(st.sampled_from(sorted(raw)), min_size=1))
    whole = potential.judge(raw)
    partial = potential.judge({name: raw[name] for name in kept})
    assert partial.value == pytest.approx(whole.value, abs=1e-6)
    assert bool(partial.notes) == (kept != raw.keys())


def test_a_missing_metric_is_named_and_the_others_weigh_more() -> None:
    judged = of().judge({"pf": 0.3, "cons": 0.9, "lpips": math.nan})
    assert "lpips" in judged.notes[0]
    assert sum(metric.weight for metric in judged.metrics) == pytest.approx(14)
    assert [metric.name for metric in judged.metrics] == ["pf", "cons"]


@pytest.mark.parametrize("raw", [{}, {"region": 1.0}, {"pf": math.nan, "cons": math.inf}])
def test_without_any_metric_there_is_no_potential(raw: dict[str, float]) -> None:
    judged = of().judge(raw)
    assert judged.value is None
    assert judged.notes


def test_ordinary_candidates_fill_most_of_the_range() -> None:
    low, high = of().range
    poor, fine = (
        value(of(), raw)
        for raw in (
            {"pf": 0.15, "cons": 0.6, "lpips": 0.5},
            {"pf": 0.3, "cons": 0.95, "lpips": 0.1},
        )
    )
    assert low < poor < fine < high
    assert (fine - poor) / (high - low) > 0.5


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="beauty") as caught:
        weighted(pf=1, beauty=2)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("wrong", [{}, {"pf": 0.0}, {"pf": math.nan}])
def test_weights_without_effect_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="EACPS_WEIGHTS"):
        weighted(**wrong)


def test_weights_of_zero_need_no_scorer() -> None:
    assert weighted(pf=1, lpips=0).metric_names == ("pf",)


def test_alpha_and_beta_are_settings_and_their_defaults_change_no_version() -> None:
    settings = Settings(_env_file=None, alpha=4, beta=1)
    potential = Potential.of(settings)
    assert potential.judge({"pf": 0.3, "cons": 0.9, "lpips": 0.2}).value == pytest.approx(3.7)
    assert potential.range == pytest.approx((1.7, 4.5))
    assert Potential.of(Settings(_env_file=None)).range == (4.0, 10.5)
    default = Settings(_env_file=None).fingerprint
    assert Settings(_env_file=None, alpha=10, beta=3).fingerprint == default
    assert settings.fingerprint != default


def test_alpha_is_refused_where_it_does_nothing() -> None:
    with pytest.raises(SettingsError, match="EACPS_ALPHA does nothing"):
        load_settings(alpha=4, weights={"pf": 1})
    assert load_settings(weights={"pf": 1}).potential == "weighted"
    assert load_settings(verifier=str(DEMO_PACK / "verifier")).weights == {"verified": 1}
