"""Runs all searches of a task, rendering missing looks in as few batches as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from benchmarks.search.bank import Banks, Wanted
from benchmarks.search.entries import Entry, entries
from benchmarks.search.judges import Judge, judges
from benchmarks.search.looks import candidate_looks, child_looks, kinship, previews
from benchmarks.search.prices import Prices, measure_prices
from benchmarks.search.problems import Part, Problem, problems
from benchmarks.search.replay import Finding, MissingLooksError, Recording, found
from benchmarks.search.workshop import Models, Workshop
from eacps.domain import SearchResult


@dataclass(frozen=True)
class Assignment:
    """A task to measure, small enough to send to another process."""

    level: str
    part: Part
    index: int
    of: int
    local: bool
    """Whether to include the searches that make children."""


@dataclass(frozen=True)
class Setup:
    """The configuration that all tasks share."""

    cache: Path
    strategies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """The results of one task."""

    findings: Mapping[tuple[str, str], Finding]
    previews: Any
    children: Any


class Bench:
    """Measures tasks; keeps editors and scorers loaded."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.entries = entries(setup.strategies)
        self.judges = judges()
        self.workshop = lru_cache(None)(self._workshop)
        self._models = lru_cache(None)(Models)
        self._problems = lru_cache(None)(problems)

    def measured(self, work: Assignment) -> Measured:
        """Run all searches of one task."""
        problem = self._problems(work.level, work.part, work.of)[work.index]
        workshop = self.workshop(work.level)
        workshops = partial(self.workshop, work.level)
        banks = Banks(lambda drafted: workshops(drafted).bank(problem))
        looks = candidate_looks(problem) + (child_looks(problem) if work.local else [])
        fill(workshops, problem, banks, looks)
        bank = banks.bank(0)
        told = previews(problem, bank, self.judges, workshop.preview_steps)
        kin = kinship(problem, bank, self.judges) if work.local else None
        chosen = [entry for entry in self.entries if work.local or not entry.local]
        findings: dict[tuple[str, str], Finding] = {}
        for steps in dict.fromkeys(entry.steps for entry in chosen):
            group = [entry for entry in chosen if entry.steps == steps]
            findings |= self._findings(steps, problem, group)
        return Measured(findings, told, kin)

    def prices(self, work: Assignment, threads: int) -> Prices:
        """What the parts of a search cost with the level's editor, measured now."""
        import torch

        torch.set_num_threads(threads)
        return measure_prices(
            self.workshop(work.level), self._problems(work.level, work.part, work.of)[work.index]
        )

    def _findings(
        self, steps: int, problem: Problem, chosen: Sequence[Entry]
    ) -> dict[tuple[str, str], Finding]:
        """Run all searches of one number of steps until they need missing renders; render these
        together, and restart the interrupted searches."""
        workshop = self.workshop(problem.level, steps)

        def workshops(drafted: int) -> Workshop:
            return self.workshop(problem.level, drafted or steps)

        banks = Banks(lambda drafted: workshops(drafted).bank(problem))
        waiting = [(entry, name) for entry in chosen for name in entry.judges]
        findings: dict[tuple[str, str], Finding] = {}
        while waiting:
            lacking: list[Wanted] = []
            stopped = []
            for entry, name in waiting:
                try:
                    findings[entry.label, name] = self._run(
                        workshop, problem, banks, entry, self.judges[name]
                    )
                except MissingLooksError as error:
                    lacking += error.looks
                    stopped.append((entry, name))
            fill(workshops, problem, banks, lacking)
            waiting = stopped
        return findings

    def _run(
        self, workshop: Workshop, problem: Problem, banks: Banks, entry: Entry, judge: Judge
    ) -> Finding:
        recording = Recording(problem, banks, judge, workshop.nfe_per_step)
        whole = self.workshop(problem.level).steps * workshop.nfe_per_step
        return found(banks, recording, entry.plan(judge, problem.seed, workshop.steps), whole)

    def _workshop(self, level: str, steps: int = 0) -> Workshop:
        return Workshop(level, self._setup.cache, steps, self._models(level))


Workshops = Callable[[int], Workshop]
"""By the number of steps of drafts; 0: of whole renders."""


def fill(workshops: Workshops, problem: Problem, banks: Banks, looks: Sequence[Wanted]) -> None:
    """Render the looks that the banks do not have."""
    lacking = banks.missing(dict.fromkeys(looks))
    for drafted in sorted({look.drafted for look in lacking}):
        own = [look.own for look in lacking if look.drafted == drafted]
        workshops(drafted).make(problem, banks.bank(drafted), own)


def filled(
    workshops: Workshops, problem: Problem, banks: Banks, search: Callable[[], SearchResult]
) -> SearchResult:
    """Run a search, rendering missing looks."""
    while True:
        try:
            return search()
        except MissingLooksError as error:
            fill(workshops, problem, banks, error.looks)
