"""Made-up tasks with a known truth, on which a search is run and its cost counted."""

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
"""From this truth on, a verifier says yes to an edit of a task with the standard spread."""


def standard_normal(*key: object) -> float:
    return NormalDist().inv_cdf(random.Random(repr(key)).random() or 0.5)


@dataclass(frozen=True)
class Landscape:
    """One task. A noise's truth is normal; a child's correlates with its parent's by cos(angle)."""

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
        """How well a preview at this share of the steps foretells the truth."""
        return float(1 - (1 - share) ** self.preview_power)

    def judge(self, trial: Trial, steps: int) -> Outcome:
        """What a verifier, and the potential, say of a finished or paused trial."""
        share = 1.0 if trial.to_step is None else trial.to_step / steps
        known = self.preview_correlation(share)
        luck = standard_normal(self.seed, trial.id, "preview") * math.sqrt(1 - known**2)
        noise = self.judge_noise * standard_normal(self.seed, trial.id, "judge")
        seen = (self.truth(trial.noise) - self.mean) / self.spread
        potential = self.mean + self.spread * (known * seen + luck + noise)
        answer = NormalDist().cdf((potential - PASSED) / 0.1)
        return Outcome(trial, potential, {"satisfied": answer, "preserved": 1.0})


def over_tasks(plan: SearchPlan, landscapes: Sequence[Landscape]) -> tuple[float, float]:
    """By how much the winners' truth exceeds the mean attempt's, and the cost in full renders;
    both averaged over tasks."""
    worth = spent = 0.0
    for task in landscapes:
        done = play(plan, partial(task.judge, steps=plan.steps))
        winner = best(done.outcomes)
        assert winner is not None
        worth += task.truth(winner.trial.noise) - task.mean
        spent += done.cost
    return worth / len(landscapes), spent / len(landscapes)
