"""Runs real searches on cached renders, and counts NFE as if they were rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.search.bank import END, Banks, Wanted, key_of
from benchmarks.search.judges import Judge
from benchmarks.search.problems import Problem
from eacps.domain import Candidate, Failure, Metric, SearchPlan, SearchResult, Trial
from eacps.errors import SearchError
from eacps.runner import search
from eacps.runner.judging import NEAREST


class MissingLooksError(Exception):
    """The bank lacks looks that the search needs; render them and run the search again."""

    def __init__(self, looks: Sequence[Wanted]) -> None:
        super().__init__(f"{len(looks)} looks are missing")
        self.looks = list(looks)


@dataclass(frozen=True)
class Finding:
    """The result of a search: the oracle's verdict on its best candidate, and the cost."""

    success: bool
    strict: bool
    score: float
    potential: float
    pf: float
    lpips: float
    nfe: float
    """Denoiser passes, in full renders of the level."""
    cons: float = 0.0
    judged: int = 0
    """The pictures that were decoded and judged."""


class Recording:
    """Replaces the devices by answers from the bank."""

    def __init__(self, problem: Problem, banks: Banks, judge: Judge, nfe_per_step: int) -> None:
        self._problem, self._banks, self._judge = problem, banks, judge
        self.nfe_per_step = nfe_per_step
        self.judged = 0

    def searched(self, plan: SearchPlan) -> SearchResult:
        """Run the search."""
        self._steps, self.judged = plan.steps, 0
        return search(self._problem.task(plan), self.run_batches)

    def run_batches(self, batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        """Return one candidate per trial; raises MissingLooksError with all missing looks."""
        lacking = self._banks.missing(look_of(trial) for batch in batches for trial in batch)
        if lacking:
            raise MissingLooksError(lacking)
        self.judged += sum(map(len, batches))
        return [candidate for batch in batches for candidate in self._batch(batch)]

    def _batch(self, batch: Sequence[Trial]) -> list[Candidate]:
        candidates = [self._candidate(trial) for trial in batch]
        if not self._judge.tells_likeness or any(trial.to_step is None for trial in batch):
            return candidates
        shown = [one for one in candidates if one.failure is None]
        order = sorted(shown, key=lambda one: -(one.potential or 0.0))
        features = [self._banks.features(look_of(one.trial)) for one in order]
        for place in range(1, len(order)):
            nearest = max(float(features[place] @ other) for other in features[:place])
            metric = Metric(NEAREST, nearest, nearest, 0.0, 0.0)
            index = candidates.index(order[place])
            candidates[index] = _with(candidates[index], metric)
        return candidates

    def _candidate(self, trial: Trial) -> Candidate:
        look = look_of(trial)
        if failure := self._banks.failure(look):
            code, _, message = failure.partition(": ")
            return Candidate(trial, failure=Failure(code, message))
        view = self._banks.view(look)
        assert view is not None
        potential, metrics = self._judge(self._problem.name, look, view)
        start = int(trial.state or 0)
        stop = self._steps if trial.to_step is None else trial.to_step
        return Candidate(
            trial,
            image=look.key,
            metrics=metrics,
            potential=potential,
            nfe=(stop - start) * self.nfe_per_step,
            state=None if trial.to_step is None or trial.draft else str(stop),
        )


def look_of(trial: Trial) -> Wanted:
    """The look at a trial at the end of its call."""
    key = key_of(trial.noise, trial.instruction_suffix, trial.start)
    if trial.draft:
        return Wanted(key, END, trial.to_step or 0)
    return Wanted(key, END if trial.to_step is None else trial.to_step)


def found(banks: Banks, recording: Recording, plan: SearchPlan, whole: int) -> Finding:
    """Run the search and compare its best candidate with the truth; a full render of the level
    takes `whole` passes."""
    try:
        result = recording.searched(plan)
    except SearchError:
        return Finding(False, False, 0.0, 0.0, 0.0, 0.0, 0.0)
    best = result.best
    view = banks.view(look_of(best.trial))
    assert view is not None
    return Finding(
        success=view["success"] > 0,
        strict=view["strict"] > 0,
        score=view["score"],
        potential=best.potential or 0.0,
        pf=view["pf"],
        lpips=view["lpips"],
        nfe=result.nfe / whole,
        cons=view["cons"],
        judged=recording.judged,
    )


def _with(candidate: Candidate, metric: Metric) -> Candidate:
    return replace(candidate, metrics=(*candidate.metrics, metric))
