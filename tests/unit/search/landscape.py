"""Synthetic tasks with a known truth, to measure what a search finds and what it costs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from eacps.domain import Noise, Outcome, SearchPlan, Trial
from eacps.search import best
from eacps.testing.strategies import play

PASSED = 1.0
"""A verifier says yes to edits whose truth is at least this."""


def standard_normal(*key: object) -> float:
    return NormalDist().inv_cdf(random.Random(repr(key)).random() or 0.5)


@dataclass(frozen=True)
class Landscape:
    """One task. Truth is normally distributed over noises; a child's truth correlates with its
    parent's by cos(angle)."""

    seed: int
    mean: float = 0.0
    spread: float = 1.0
    preview_power: float = 4.0
    judge_noise: float = 0.0

    def truth(self, noise: Noise) -> float:
        value = standard_normal(self.seed, noise.seed)
        for move in noise.moves:
            fresh = standard_normal(self.seed, move.seed)
            value = math.cos(move.angle) * value + math.sin(move.angle) * fresh
        return self.mean + self.spread * value

    def preview_correlation(self, share: float) -> float:
        """The correlation of the truth with a preview at this share of the steps."""
        return float(1 - (1 - share) ** self.preview_power)

    def judge(self, trial: Trial, steps: int) -> Outcome:
        """The potential and the verifier's answers for a finished or paused trial."""
        share = 1.0 if trial.to_step is None else trial.to_step / steps
        known = self.preview_correlation(share)
        luck = standard_normal(self.seed, trial.id, "preview") * math.sqrt(1 - known**2)
        noise = self.judge_noise * standard_normal(self.seed, trial.id, "judge")
        seen = (self.truth(trial.noise) - self.mean) / self.spread
        potential = self.mean + self.spread * (known * seen + luck + noise)
        answer = NormalDist().cdf((potential - PASSED) / 0.1)
        return Outcome(trial, potential, {"satisfied": answer, "preserved": 1.0})


def over_tasks(plan: SearchPlan, landscapes: Sequence[Landscape]) -> tuple[float, float]:
    """The mean gain of the winner over an average attempt, and the mean cost in full renders."""
    worth = spent = 0.0
    for task in landscapes:
        done = play(plan, partial(task.judge, steps=plan.steps))
        winner = best(done.outcomes)
        assert winner is not None
        worth += task.truth(winner.trial.noise) - task.mean
        spent += done.cost
    return worth / len(landscapes), spent / len(landscapes)
