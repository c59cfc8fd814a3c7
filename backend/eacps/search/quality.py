"""Whether a result is good enough, by a verifier's answers or by calibrated thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from eacps.domain import Outcome

QUESTIONS = ("satisfied", "preserved", "intact")
"""Was the instruction carried out, is the rest unchanged, is the image undamaged: each 0 to 1."""
POTENTIAL = "potential"

Thresholds = Mapping[str, float]


def answers(scores: Mapping[str, float]) -> dict[str, float]:
    """The answers of a verifier among these scores.

    >>> answers({"satisfied": 0.9, "preserved": float("nan"), "pf": 0.3})
    {'satisfied': 0.9}
    """
    return {name: scores[name] for name in QUESTIONS if math.isfinite(scores.get(name, math.nan))}


def quality(outcome: Outcome, lowest: float, highest: float) -> float:
    """The quality of a result, from 0 to 1.

    It is the lowest of the verifier's answers, because one flaw is enough to spoil an edit. Without
    a verifier it is the position of the potential between `lowest` and `highest`.

    >>> from eacps.domain import Noise, Trial
    >>> trial = Trial("c1", Noise(7))
    >>> quality(Outcome(trial, 8.0, {"satisfied": 0.9, "preserved": 0.2}), 4.0, 12.0)
    0.2
    >>> quality(Outcome(trial, 8.0), 4.0, 12.0)
    0.5
    """
    given = answers(outcome.scores)
    if given:
        share = min(given.values())
    elif outcome.potential is None or not math.isfinite(outcome.potential):
        return 0.0
    else:
        share = (outcome.potential - lowest) / (highest - lowest)
    return min(1.0, max(0.0, share))


def missed_thresholds(
    scores: Mapping[str, float], at_least: Thresholds, at_most: Thresholds
) -> list[str]:
    """The names of the scores that miss their threshold; a score that is absent misses it too."""
    low = [name for name, least in at_least.items() if not scores.get(name, math.nan) >= least]
    high = [name for name, most in at_most.items() if not scores.get(name, math.nan) <= most]
    return [*low, *high]


def passes(outcome: Outcome, yes: float, at_least: Thresholds, at_most: Thresholds) -> bool:
    """Whether every answer is at least `yes` and every threshold is met.

    Without answers and thresholds, nothing passes.
    """
    given = answers(outcome.scores)
    if not given and not at_least and not at_most:
        return False
    scores = dict(outcome.scores)
    if outcome.potential is not None:
        scores[POTENTIAL] = outcome.potential
    return min(given.values(), default=1.0) >= yes and not missed_thresholds(
        scores, at_least, at_most
    )
