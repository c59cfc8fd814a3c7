"""Queries on the rows of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy

from benchmarks.search.bank import END
from benchmarks.search.entries import BASELINE, BASELINE_FAMILY
from benchmarks.search.judges import CLIP, DIRECTION, ORACLE, VERIFIER
from benchmarks.search.prices import Prices, seconds
from benchmarks.search.statistics import (
    Estimate,
    Numbers,
    Record,
    bootstrap,
    correlation,
    finite_mean,
    mean_interval,
    nfe_to_reach,
    record,
)


@dataclass(frozen=True)
class Run:
    """A search with one judge on one set of tasks, with values per task."""

    row: Mapping[str, Any]
    full_steps: int
    prices: Prices | None = None

    @property
    def search(self) -> str:
        """The search's label."""
        return str(self.row["search"])

    @property
    def family(self) -> str:
        """The curve to which it belongs."""
        return str(self.row["family"])

    @property
    def judge(self) -> str:
        """The judge that ranked its candidates."""
        return str(self.row["judge"])

    @cached_property
    def success(self) -> Numbers:
        """Whether the oracle accepts the result, per task."""
        return numpy.array([float(bit) for bit in self.row["success"]])

    def values(self, name: str) -> Numbers:
        """`score`, `nfe`, `pf`, `lpips` or `potential`."""
        return numpy.array(self.row[name], dtype=float)

    @property
    def nfe(self) -> float:
        """The mean cost in full renders."""
        return float(self.values("nfe").mean())

    @property
    def judged(self) -> float:
        """The mean number of pictures that were judged."""
        return float(self.values("judged").mean())

    @property
    def seconds(self) -> float:
        """The mean cost in seconds of one device, of denoising, decoding and judging."""
        assert self.prices is not None, "measured before prices were"
        return seconds(self.prices, self.judge, self.nfe * self.full_steps, self.judged)

    @property
    def steps(self) -> int:
        """The denoising steps of a full render."""
        return int(self.row["steps"])

    @property
    def tasks(self) -> int:
        """The number of tasks."""
        return len(self.success)


@dataclass(frozen=True)
class Duel:
    """A comparison of two searches on their common tasks."""

    difference: Estimate
    """The difference of success rates."""
    graded: Estimate
    """The difference of the oracle's graded scores."""
    successes: Record
    """By success."""
    scores: Record
    """By the oracle's graded scores."""


class Results:
    """A set of tasks in a results file."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], level: str, part: str) -> None:
        own = [row for row in rows if row.get("level") == level and row.get("part") == part]
        self.level, self.part = level, part
        self.facts = next(row for row in own if row["kind"] == "set")
        prices = rows[0].get("prices")
        full = self.facts["steps"]
        self.runs = [Run(row, full, prices) for row in own if row["kind"] == "run"]
        self._rows = own

    @property
    def tasks(self) -> int:
        """The number of tasks."""
        return int(self.facts["tasks"])

    @property
    def judges(self) -> list[str]:
        """The judges with which the baseline ran."""
        return [run.judge for run in self.runs if run.search == BASELINE]

    @property
    def best_judge(self) -> str:
        """The verifier, or its replacement."""
        return VERIFIER if VERIFIER in self.judges else DIRECTION

    def run(self, search: str, judge: str) -> Run | None:
        """A search with a judge, or None if it did not run."""
        return next((r for r in self.runs if (r.search, r.judge) == (search, judge)), None)

    def baseline(self, judge: str) -> Run:
        """Best of 8 with this judge."""
        run = self.run(BASELINE, judge)
        assert run is not None, f"best of 8 did not run under {judge}"
        return run

    def under(self, judge: str, family: str | None = None) -> list[Run]:
        """All searches with a judge, the cheapest first."""
        found = [r for r in self.runs if r.judge == judge and family in (None, r.family)]
        return sorted(found, key=lambda run: run.nfe)

    @property
    def families(self) -> list[str]:
        """The names of all curves."""
        return list(dict.fromkeys(run.family for run in self.runs))

    def standing(self, run: Run) -> float:
        """An estimate of a search's success on all tasks: that of the baseline plus the lead over
        it on the search's tasks."""
        base = self.baseline(run.judge).success
        return float(base.mean() + (run.success - base[: run.tasks]).mean())

    def single(self) -> Estimate:
        """The success rate of a single attempt."""
        run = self.run("best of 1", CLIP)
        assert run is not None
        return mean_interval(run.success)

    def auc(self, judge: str, step: int = END) -> Estimate:
        """The AUC of a judge at a step for final success, within tasks with both outcomes."""
        return finite_mean(self._told(judge, step, 2))

    def foresight(self, judge: str, step: int) -> Estimate:
        """The rank correlation, within tasks, of a preview's potential with the final one."""
        return finite_mean(self._told(judge, step, 0))

    def foretold_truth(self, judge: str, step: int) -> Estimate:
        """The rank correlation, within tasks, of a preview's potential with the final truth."""
        return finite_mean(self._told(judge, step, 1))

    @property
    def preview_steps(self) -> list[int]:
        """The steps of previews."""
        steps = {row["step"] for row in self._rows if row["kind"] == "preview"}
        return sorted(steps - {END})

    def _told(self, judge: str, step: int, place: int) -> list[float]:
        row = next(
            row
            for row in self._rows
            if row["kind"] == "preview" and (row["judge"], row["step"]) == (judge, step)
        )
        return [numpy.nan if told[place] is None else told[place] for told in row["told"]]

    @property
    def moves(self) -> list[str]:
        """The kinds of children that were compared with their parents."""
        return list(dict.fromkeys(row["move"] for row in self._rows if row["kind"] == "child"))

    def kinship(self, move: str, judge: str = ORACLE) -> Estimate:
        """Correlation of children's scores with their parents', both less their task's mean."""
        pairs = self._pairs(move, judge)

        def correlations(rows: Any) -> Numbers:
            return numpy.array(
                [correlation(pairs[row, :, 0].ravel(), pairs[row, :, 1].ravel()) for row in rows]
            )

        return bootstrap(len(pairs), correlations)

    def likeness(self, move: str) -> Estimate:
        """CLIP's cosine of child and parent."""
        return mean_interval(self._pairs(move, "likeness").mean(axis=(1, 2)))

    def _pairs(self, move: str, judge: str) -> Numbers:
        row = next(
            row
            for row in self._rows
            if row["kind"] == "child" and (row["move"], row["judge"]) == (move, judge)
        )
        return numpy.array(row["pairs"], dtype=float)


def duel(ours: Run, theirs: Run) -> Duel:
    """Compare two searches on their common tasks, which are the first of the set."""
    count = min(ours.tasks, theirs.tasks)
    mine, other = ours.success[:count], theirs.success[:count]
    return Duel(
        difference=mean_interval(mine - other),
        graded=mean_interval(ours.values("score")[:count] - theirs.values("score")[:count]),
        successes=record(mine.tolist(), other.tolist()),
        scores=record(
            ours.values("score")[:count].tolist(), theirs.values("score")[:count].tolist()
        ),
    )


def reached(points: Sequence[Run], goal: Run) -> Estimate:
    """The NFE at which a family's curve reaches the success rate of the goal."""
    count = min(run.tasks for run in (*points, goal))
    return nfe_to_reach(
        [run.values("nfe")[:count].tolist() for run in points],
        [run.success[:count].tolist() for run in points],
        goal.success[:count].tolist(),
    )


def champion(
    results: Results, judge: str, most: float, cost: str = "nfe", *, baseline: bool | None = None
) -> Run | None:
    """The search with the most successes that costs no more than `most`; ties by score. `baseline`:
    only best of N, or anything but it. Searches that ran on fewer tasks than the others are left
    out, because the luckiest of them would win."""
    runs = [run for run in results.under(judge) if getattr(run, cost) <= most + 1e-6]
    every = results.baseline(judge).tasks
    affordable = [
        run
        for run in runs
        if run.tasks == every and baseline in (None, run.family == BASELINE_FAMILY)
    ]
    return max(affordable, key=_quality, default=None)


def _quality(run: Run) -> tuple[float, float]:
    return float(run.success.mean()), float(run.values("score").mean())
