"""The judges: the product's potentials, the oracle, and the oracle with noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from benchmarks.search.bank import View, Wanted
from benchmarks.search.workshop import CLIP_METRICS, VERIFIER_METRICS, has_verifier
from eacps.domain import Metric
from eacps.scoring import Potential
from eacps.settings import Settings

CLIP: Final = "clip"
EACPS: Final = "eacps"
DIRECTION: Final = "pf_dir + 0.3 lpips"
VERIFIER: Final = "verified"
TOGETHER: Final = "verified + pf_dir"
ORACLE: Final = "oracle"
ALPHAS: Final = (0.0, 1.0)
"""Weights of `cons` in the potential `eacps` besides the published 10."""
NOISES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Standard deviations of the noise added to the oracle's judgement, which is in 0..2."""

Judging = Callable[[str, Wanted, View], tuple[float, tuple[Metric, ...]]]


@dataclass(frozen=True)
class Judge:
    """Turns the scores of a look into a potential and the metrics that strategies use."""

    name: str
    judge: Judging
    lowest: float
    highest: float
    tells_likeness: bool = False

    def __call__(self, problem: str, look: Wanted, view: View) -> tuple[float, tuple[Metric, ...]]:
        """The potential of a look at a task's render, and its metrics."""
        return self.judge(problem, look, view)


def judges() -> dict[str, Judge]:
    """All available judges, the weakest first."""
    found = [
        _weighted(CLIP, {"pf": 1.0}, CLIP_METRICS),
        _eacps(EACPS),
        *(_eacps(eacps_with(alpha), alpha) for alpha in ALPHAS),
        _weighted(DIRECTION, {"pf_dir": 1.0, "lpips": 0.3}, CLIP_METRICS),
    ]
    if has_verifier():
        both = (*VERIFIER_METRICS, *CLIP_METRICS)
        found.append(_weighted(VERIFIER, {"verified": 1.0}, VERIFIER_METRICS))
        found.append(_weighted(TOGETHER, {"verified": 1.0, "pf_dir": 1.0}, both))
    found += [_misheard(noise) for noise in reversed(NOISES)]
    found.append(Judge(ORACLE, lambda _problem, _look, view: (_truth(view), ()), 0.0, 2.0))
    return {judge.name: judge for judge in found}


def best_judge() -> str:
    """The best judge that does not know the ground truth."""
    return VERIFIER if has_verifier() else DIRECTION


def eacps_with(alpha: float) -> str:
    """The name of the potential `eacps` with this weight of `cons`."""
    return f"{EACPS}, alpha {alpha:g}"


def misheard(noise: float) -> str:
    """The name of the oracle with noise."""
    return f"{ORACLE} + noise {noise:g}"


def _weighted(name: str, weights: Mapping[str, float], seen: Sequence[str]) -> Judge:
    settings = Settings(
        _env_file=None,
        potential="weighted",
        weights=dict(weights),
    )
    return _by_potential(name, Potential.of(settings), seen)


def _eacps(name: str, alpha: float = 10.0) -> Judge:
    settings = Settings(_env_file=None, potential="eacps", alpha=alpha)
    return _by_potential(name, Potential.of(settings), CLIP_METRICS)


def _by_potential(name: str, potential: Potential, seen: Sequence[str]) -> Judge:
    def judge(_problem: str, _look: Wanted, view: View) -> tuple[float, tuple[Metric, ...]]:
        judged = potential.judge({metric: view[metric] for metric in seen})
        assert judged.value is not None
        return judged.value, judged.metrics

    return Judge(name, judge, *potential.range, tells_likeness=set(CLIP_METRICS) <= set(seen))


def _truth(view: View) -> float:
    # Success, with the graded score as a tie-breaker: the upper bound of every search.
    return view["success"] + view["score"]


def _misheard(noise: float) -> Judge:
    def judge(problem: str, look: Wanted, view: View) -> tuple[float, tuple[Metric, ...]]:
        drafted = f"/{look.drafted}" if look.drafted else ""
        heard = Random(f"{problem}/{look.key}/{look.step}{drafted}").gauss(0.0, 1.0)
        return _truth(view) + noise * heard, ()

    return Judge(misheard(noise), judge, -2 * noise, 2.0 + 2 * noise)
