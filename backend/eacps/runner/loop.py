"""A task's strategy from its first question to the ranking of all candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eacps.domain import (
    PRUNED,
    Candidate,
    EditTask,
    Failure,
    Outcome,
    SearchPlan,
    SearchResult,
    Trial,
)
from eacps.errors import SearchError
from eacps.faces.choices import NO_SUCH_CHOICE, SwapChoices, swaps_of
from eacps.search import Strategy, budget, create
from eacps.search import ranked as rank_outcomes
from eacps.search.strategies.auto import CANNOT_PAUSE

RunBatches = Callable[[Sequence[Sequence[Trial]]], Sequence[Candidate]]
OnProgress = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """How far a search is."""

    finished: int
    expected: int
    best: float | None


def search(
    task: EditTask,
    run_batches: RunBatches,
    *,
    on_progress: OnProgress | None = None,
    potential_range: tuple[float, float] = (0.0, 1.0),
) -> SearchResult:
    """Run the task's strategy to its end; how batches are run is the caller's affair."""
    strategy = _strategy(task)
    expected = expected_trials(task)
    ledger = Ledger(task.plan.steps)
    while asked := strategy.ask():
        trials = ledger.grouped(asked)
        finished = run_batches(batches([ledger.resumed(trial) for trial in trials], task.plan))
        strategy.tell(ledger.entered(trials, finished))
        if on_progress:
            on_progress(_progress(ledger.candidates, expected))
    return _result(task, ledger.closed(), potential_range, tuple(strategy.notes))


class Ledger:
    """All candidates of a search. One that is carried on stays one, and its cost adds up."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._entries: dict[str, Candidate] = {}

    @property
    def candidates(self) -> list[Candidate]:
        """What is known so far, in the order first asked."""
        return list(self._entries.values())

    def grouped(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials that go the same way side by side, so that they can be one batch."""
        return sorted(trials, key=self._leg)

    def _leg(self, trial: Trial) -> tuple[int, int, str]:
        known = self._entries.get(trial.id)
        start = known.trial.to_step if known and known.state else None
        end = self._steps if trial.to_step is None else trial.to_step
        # The furthest first: they decide a depth-first search.
        return (-(start or 0), end, trial.instruction_suffix)

    def resumed(self, trial: Trial) -> Trial:
        """The trial with the state from which it goes on, if it was paused before."""
        known = self._entries.get(trial.id)
        return replace(trial, state=known.state) if known and known.state else trial

    def entered(self, asked: Sequence[Trial], finished: Sequence[Candidate]) -> list[Outcome]:
        """Take candidates in; returns what each call alone came to."""
        outcomes = []
        for trial, candidate in zip(asked, finished, strict=True):
            # A strategy knows nothing of states: it is told of the trial that it asked for.
            own = replace(candidate, trial=trial)
            outcomes.append(own.outcome)
            before = self._entries.get(trial.id)
            if before is not None:
                own = replace(
                    own,
                    nfe=own.nfe + before.nfe,
                    seconds=round(own.seconds + before.seconds, 4),
                )
            self._entries[trial.id] = own
        return outcomes

    def closed(self) -> list[Candidate]:
        """All candidates at the end: what is still paused was pruned."""
        return [self._closed(candidate) for candidate in self.candidates]

    def _closed(self, candidate: Candidate) -> Candidate:
        step = candidate.trial.to_step
        if step is None or candidate.failure is not None:
            return replace(candidate, state=None)
        words = f"Stopped at step {step} of {self._steps}: others looked better."
        return replace(candidate, state=None, failure=Failure(PRUNED, words))


def expected_trials(task: EditTask) -> int:
    """How many trials a task takes when nothing fails."""
    if task.route == "face_swap":
        return len(swaps_of(task.plan))
    return budget(task.plan)


def batches(trials: Sequence[Trial], plan: SearchPlan) -> list[Sequence[Trial]]:
    """Trials cut into batches of the plan's size, in order."""
    size = plan.batch_size
    return [trials[start : start + size] for start in range(0, len(trials), size)]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Best first, ties in the order in which they were asked; then the pruned, then failures."""
    by_trial = {candidate.trial: candidate for candidate in candidates}
    best_first = [
        by_trial.pop(outcome.trial)
        for outcome in rank_outcomes([candidate.outcome for candidate in candidates])
    ]
    return [*best_first, *sorted(by_trial.values(), key=lambda one: not one.pruned)]


def _strategy(task: EditTask) -> Strategy:
    return SwapChoices(task.plan) if task.route == "face_swap" else create(task.plan)


def _progress(candidates: Sequence[Candidate], expected: int) -> Progress:
    potentials = [c.potential for c in candidates if c.potential is not None]
    return Progress(len(candidates), expected, max(potentials, default=None))


def _result(
    task: EditTask,
    candidates: Sequence[Candidate],
    potential_range: tuple[float, float],
    decisions: tuple[str, ...],
) -> SearchResult:
    candidates, notes = _hoisted(ranked(_offered(candidates)))
    if not candidates or not candidates[0].outcome.usable:
        raise _without_result(candidates)
    return SearchResult(
        task=task,
        candidates=tuple(candidates),
        nfe=sum(c.nfe for c in candidates),
        seconds=round(sum(c.seconds for c in candidates), 3),
        editor=candidates[0].editor,
        potential_range=potential_range,
        notes=notes,
        decisions=decisions,
    )


def _offered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates without what the engine or scene does not offer; then numbered without gaps."""
    offered = [one for one in candidates if not no_such_choice(one)]
    if any(one.outcome.usable for one in offered):
        # Where pausing was tried in vain, and other attempts took its place, it is no news.
        offered = [one for one in offered if not _never_began(one)]
    if len(offered) == len(candidates):
        return offered
    return [
        replace(one, trial=replace(one.trial, id=f"c{number}"))
        for number, one in enumerate(offered, start=1)
    ]


def _never_began(candidate: Candidate) -> bool:
    return candidate.failure is not None and candidate.failure.code == CANNOT_PAUSE


def no_such_choice(candidate: Candidate) -> bool:
    """Whether a trial of a face swap came to nothing because there is no such choice."""
    return candidate.failure is not None and candidate.failure.code == NO_SUCH_CHOICE


def _hoisted(candidates: Sequence[Candidate]) -> tuple[list[Candidate], tuple[str, ...]]:
    """What holds of every candidate is said once, above them."""
    alive = [candidate for candidate in candidates if candidate.failure is None]
    if len(alive) < 2:
        return list(candidates), ()
    common = tuple(note for note in alive[0].notes if all(note in c.notes for c in alive))
    return [
        replace(c, notes=tuple(note for note in c.notes if note not in common)) for c in candidates
    ], common


def _without_result(candidates: Sequence[Candidate]) -> SearchError:
    failures = {c.failure.message: c.failure for c in candidates if c.failure and not c.pruned}
    if len(failures) == 1:
        # One reason for all, such as no face in the mask: it says itself what to change.
        (only,) = failures.values()
        return SearchError(only.message, code=only.code)
    return SearchError(
        f"None of {len(candidates)} candidates is usable: {'; '.join(sorted(failures)[:3])}",
        hint="Mend the cause named here, then retry the task.",
    )
