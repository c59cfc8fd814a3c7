"""Are elites better chosen in pairs? `python -m benchmarks.choosing_elites --out DIR`.

`eacps` and `waves` search held-out tasks of the demo with the same opinion of each picture, which
is the truth, blurred with noise as in ways_of_asking.py: once as they are and once with
`pairwise_elites`. Strategies, tournament and finals are the real ones, and so is the truth about
attempts from fresh noises. To search each task many times, nothing else is rendered: a preview is
judged as if it were the result, with noise of its own, and a child keeps its parent's truth as
often as measured (docs/search.md, which children), or else is another attempt.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any, Final

from benchmarks.search.statistics import mean_interval
from benchmarks.ways_of_asking import FIRST_IS_LIKED, labelled
from eacps.domain import Outcome, SearchPlan, Trial
from eacps.runner.finals import NEAR
from eacps.search import create, finished, ranked
from eacps.search.comparing import PREFERENCE, is_comparison
from eacps.search.roundwise import RoundwiseStrategy
from eacps.verifiers.scorer import PAIRS_EACH
from eacps.verifiers.tournament import Pair, tournament

AUCS: Final = (0.6, 0.7, 0.85)
WAYS: Final = ("scores", "log-probabilities")
STRATEGIES: Final = ("eacps", "waves")
ELITES: Final = (0, 4)
FINALISTS: Final = 4
KEPT_TRUTH: Final = 0.54
STEPS: Final = 10


@dataclass
class Play:
    """One search of one task, by a judge of this AUC."""

    truth: Sequence[float]
    auc: float
    rounds_scores: bool
    draw: str
    calls: int = 0
    _truths: dict[str, float] = field(default_factory=dict)

    def searched(self, strategy: str, elites: int) -> tuple[float, int]:
        """Whether its best result succeeds, and how often the judge was called."""
        params = {"pairwise_elites": elites} if elites else {}
        plan = SearchPlan(strategy, params, seed=Random(self.draw).getrandbits(32), steps=STEPS)
        search = create(plan)
        assert isinstance(search, RoundwiseStrategy)
        search.near = NEAR
        outcomes: list[Outcome] = []
        while trials := list(search.ask()):
            if is_comparison(trials):
                pairs = zip(trials, self._strengths(trials), strict=True)
                search.tell([Outcome(trial, None, {PREFERENCE: each}) for trial, each in pairs])
                continue
            found = [self._judged(trial) for trial in trials]
            outcomes += found
            search.tell(found)
        return self._of(self._winner(outcomes)), self.calls

    def _winner(self, outcomes: Sequence[Outcome]) -> Trial:
        """The best result after the finals."""
        best = ranked(finished(outcomes))
        top = best[0].potential or 0.0
        last = [one.trial for one in best[:FINALISTS] if top - (one.potential or 0.0) <= NEAR]
        if len(last) < 2:
            return best[0].trial
        strengths = self._strengths(last)
        return last[max(range(len(last)), key=lambda place: (strengths[place], -place))]

    def _judged(self, trial: Trial) -> Outcome:
        self.calls += 1
        score = 9 / (1 + math.exp(-self._opinion(trial)))
        share = (round(score) if self.rounds_scores else score) / 9
        return Outcome(trial, share * share, {"satisfied": share, "preserved": share})

    def _strengths(self, trials: Sequence[Trial]) -> Sequence[float]:
        opinions = [self._opinion(trial) for trial in trials]

        def meet(pairs: Sequence[Pair]) -> list[float | str]:
            self.calls += 2 * len(pairs)
            return [_first_wins(opinions[one] - opinions[other]) for one, other in pairs]

        count = len(trials)
        most = min(count * (count - 1) // 2, PAIRS_EACH * count)
        return tournament(count, meet, most=most).strengths

    def _opinion(self, trial: Trial) -> float:
        """In standard deviations of the noise, which belongs to the picture."""
        apart = math.sqrt(2) * NormalDist().inv_cdf(self.auc)
        noise = Random(f"{self.draw} {trial.noise} {trial.to_step}").gauss(0, 1)
        return apart * (self._of(trial) - 0.5) + noise

    def _of(self, trial: Trial) -> float:
        if trial.id not in self._truths:
            chance = Random(f"{self.draw} {trial.noise}")
            keeps = trial.parent is not None and chance.random() < KEPT_TRUTH
            other = chance.choice(self.truth)
            self._truths[trial.id] = self._truths[trial.parent or ""] if keeps else other
        return self._truths[trial.id]


def _first_wins(ahead: float) -> float:
    """In both orders, by a judge that likes what it is shown first."""
    return ((ahead + FIRST_IS_LIKED > 0) + (ahead - FIRST_IS_LIKED > 0)) / 2


def measured(
    strategy: str, auc: float, way: str, tasks: Sequence[Sequence[float]], draws: int
) -> dict[str, Any]:
    """One strategy under one judge, as it is and with elites chosen in pairs."""
    success: dict[int, list[float]] = {}
    calls: dict[int, float] = {}
    for elites in ELITES:
        rows = [
            [
                Play(truth, auc, way == "scores", f"{number} {draw}").searched(strategy, elites)
                for draw in range(draws)
            ]
            for number, truth in enumerate(tasks)
        ]
        success[elites] = [sum(row[0] for row in each) / draws for each in rows]
        calls[elites] = sum(row[1] for each in rows for row in each) / draws / len(tasks)
    before, after = (success[elites] for elites in ELITES)
    gain = mean_interval([new - old for old, new in zip(before, after, strict=True)])
    return {
        "kind": "elites",
        "strategy": strategy,
        "truth": auc,
        "asked": way,
        "tasks": len(tasks),
        "draws": draws,
        "success": [round(sum(each) / len(each), 4) for each in (before, after)],
        "calls": [round(each, 1) for each in calls.values()],
        "gain": [round(each, 4) for each in (gain.value, gain.low, gain.high)],
    }


def main() -> None:
    """Measure all, and write a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    tasks = [item.truth for item in labelled(options.tasks, options.out / "attempts")]
    with (options.out / "elites.jsonl").open("w") as file:
        for strategy in STRATEGIES:
            for auc in AUCS:
                for way in WAYS:
                    row = json.dumps(measured(strategy, auc, way, tasks, options.draws))
                    file.write(f"{row}\n")
                    print(row, flush=True)


if __name__ == "__main__":
    main()
