"""The search loop: from the strategy's first trials to the ranking of all candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eacps.domain import (
    JUDGE_DOWN,
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
from eacps.runner.finals import NEAR, finals
from eacps.runner.judging import MISSING
from eacps.search import Strategy, budget, create
from eacps.search import ranked as rank_outcomes
from eacps.search.comparing import is_comparison
from eacps.search.roundwise import RoundwiseStrategy
from eacps.search.strategies.auto import CANNOT_PAUSE

RunBatches = Callable[[Sequence[Sequence[Trial]]], Sequence[Candidate]]
NOT_JUDGED = "Not judged: "
JUDGE_LATER = "The order says nothing; `eacps rescore` judges it when the judge can be asked again."
OnProgress = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """The progress of a search."""

    finished: int
    expected: int
    best: float | None


def search(
    task: EditTask,
    run_batches: RunBatches,
    *,
    on_progress: OnProgress | None = None,
    on_expected: Callable[[int], None] | None = None,
    potential_range: tuple[float, float] = (0.0, 1.0),
) -> SearchResult:
    """Run the task's strategy to its end; `run_batches` decides how batches are run.

    `on_expected` is called before each round with the number of trials that are now expected.
    """
    strategy = _strategy(task)
    if isinstance(strategy, RoundwiseStrategy):
        strategy.near = NEAR * abs(potential_range[1] - potential_range[0])
    ledger = Ledger(task.plan.steps, potential_range)
    while asked := strategy.ask():
        expected = expected_trials(task, strategy)
        if on_expected:
            on_expected(expected)
        if is_comparison(asked):
            # As one batch, because each may meet any other.
            compared = run_batches([[ledger.started(trial) for trial in asked]])
            strategy.tell(ledger.compared(asked, compared))
            continue
        trials = ledger.grouped(asked)
        begun = [ledger.started(ledger.resumed(trial)) for trial in trials]
        finished = run_batches(batches(begun, task.plan))
        strategy.tell(ledger.record(trials, finished))
        if on_progress:
            on_progress(_progress(ledger.candidates, expected))
    result = _result(task, ledger.finish_all(), potential_range, tuple(strategy.notes))
    return finals(result, run_batches)


class Ledger:
    """All candidates of a search. A resumed trial remains one candidate, with its total cost.

    Strategies take a picture that no judge could be asked about for an average one, so that they go
    on; nobody else is told a potential that was not measured.
    """

    def __init__(self, steps: int, potential_range: tuple[float, float] = (0.0, 1.0)) -> None:
        self._steps = steps
        self._average = sum(potential_range) / 2
        self._entries: dict[str, Candidate] = {}

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates so far, in the order in which they were first requested."""
        return list(self._entries.values())

    def grouped(self, trials: Sequence[Trial]) -> list[Trial]:
        """Sort trials so that those with the same steps to run are adjacent, to form batches."""
        return sorted(trials, key=self._leg)

    def _leg(self, trial: Trial) -> tuple[int, int, str, str]:
        known = self._entries.get(trial.id)
        start = known.trial.to_step if known and known.state else None
        end = self._steps if trial.to_step is None else trial.to_step
        # Trials that are further along first, for depth-first strategies.
        edited = trial.parent if trial.again else None
        return (-(start or 0), end, edited or "", trial.instruction_suffix)

    def resumed(self, trial: Trial) -> Trial:
        """The trial with its stored state, if it was paused before."""
        known = self._entries.get(trial.id)
        return replace(trial, state=known.state) if known and known.state else trial

    def started(self, trial: Trial) -> Trial:
        """The trial with the picture that it edits, if that is not the task's."""
        if not trial.again:
            return trial
        parent = self._entries.get(trial.parent or "")
        if parent is None or not parent.image:
            raise SearchError(
                f"Trial {trial.id} edits the picture of {trial.parent}, which has none.",
                hint="A strategy may edit only pictures of usable outcomes again.",
            )
        return replace(trial, start=parent.image)

    def record(self, asked: Sequence[Trial], finished: Sequence[Candidate]) -> list[Outcome]:
        """Record candidates; returns the outcome of each call by itself."""
        outcomes = []
        for trial, candidate in zip(asked, finished, strict=True):
            # Strategies do not know about states: tell them about the trial that they asked for.
            own = replace(candidate, trial=trial)
            outcomes.append(self._told(own))
            before = self._entries.get(trial.id)
            if before is not None:
                own = replace(
                    own,
                    nfe=own.nfe + before.nfe,
                    seconds=round(own.seconds + before.seconds, 4),
                )
                if before.trial.draft and own.failure and before.outcome.usable:
                    own = _still_drafted(before, own)
            edited = candidate.trial.start
            self._entries[trial.id] = replace(own, trial=replace(own.trial, start=edited))
        return outcomes

    def compared(self, asked: Sequence[Trial], answered: Sequence[Candidate]) -> list[Outcome]:
        """The outcomes of a comparison of known candidates; cards say why there was none."""
        for trial, candidate in zip(asked, answered, strict=True):
            known = self._entries[trial.id]
            missing = (f"Not compared in pairs: {note}" for note in candidate.notes)
            notes = tuple(dict.fromkeys((*known.notes, *missing)))
            self._entries[trial.id] = replace(known, notes=notes)
        pairs = zip(asked, answered, strict=True)
        return [replace(candidate, trial=trial).outcome for trial, candidate in pairs]

    def _told(self, candidate: Candidate) -> Outcome:
        if _is_unjudged(candidate):
            return replace(candidate.outcome, potential=self._average, failure=None)
        return candidate.outcome

    def finish_all(self) -> list[Candidate]:
        """All candidates at the end of the search; those still paused become pruned. Drafts are
        whole pictures, and are results if none was rendered in full."""
        candidates = self.candidates
        in_full = any(one.trial.to_step is None and one.outcome.usable for one in candidates)
        return [self._finish_one(candidate, in_full) for candidate in candidates]

    def _finish_one(self, candidate: Candidate, in_full: bool) -> Candidate:
        step = candidate.trial.to_step
        if candidate.trial.draft and not in_full:
            step = None
        if _is_unjudged(candidate) and candidate.failure:
            words = f"{NOT_JUDGED}{candidate.failure.message.rstrip('.')}. {JUDGE_LATER}"
            others = (note for note in candidate.notes if MISSING not in note)
            notes = (words, *(note for note in others if not note.startswith("All metrics")))
            candidate = replace(candidate, failure=None, notes=notes)
        if step is None or candidate.failure is not None:
            return replace(candidate, state=None)
        how = f"Stopped at step {step} of {self._steps}"
        if candidate.trial.draft:
            how = f"Drafted in {step} of {self._steps} steps"
        words = f"{how}: others looked better."
        return replace(candidate, state=None, failure=Failure(PRUNED, words))


def _still_drafted(draft: Candidate, failed: Candidate) -> Candidate:
    """The draft of a noise whose full render failed."""
    reason = failed.failure.message if failed.failure else ""
    note = f"It could not be rendered in full: {reason}"
    return replace(draft, nfe=failed.nfe, seconds=failed.seconds, notes=(*draft.notes, note))


def expected_trials(task: EditTask, strategy: Strategy | None = None) -> int:
    """The number of trials of a task if nothing fails, as far as its search knows by now."""
    known = getattr(strategy or _strategy(task), "expected", None)
    if isinstance(known, int):
        return known
    if task.route == "face_swap":
        return len(swaps_of(task.plan))
    return budget(task.plan)


def batches(trials: Sequence[Trial], plan: SearchPlan) -> list[Sequence[Trial]]:
    """Split trials into batches of the plan's size, in order."""
    size = plan.batch_size
    return [trials[start : start + size] for start in range(0, len(trials), size)]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Usable candidates, best first (ties in the order of request), then unjudged, then pruned,
    then failed ones."""
    by_trial = {candidate.trial: candidate for candidate in candidates}
    best_first = [
        by_trial.pop(outcome.trial)
        for outcome in rank_outcomes([candidate.outcome for candidate in candidates])
    ]
    return [*best_first, *sorted(by_trial.values(), key=_place)]


def _place(candidate: Candidate) -> int:
    return 0 if candidate.unjudged else 1 if candidate.pruned else 2


def _is_unjudged(candidate: Candidate) -> bool:
    return candidate.failure is not None and candidate.failure.code == JUDGE_DOWN


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
    candidates, notes = _hoist_shared_notes(ranked(_offered(candidates)))
    if not candidates or not (candidates[0].outcome.usable or candidates[0].unjudged):
        raise _no_result_error(candidates)
    return SearchResult(
        task=task,
        candidates=tuple(candidates),
        nfe=sum(c.nfe for c in candidates),
        seconds=round(sum(c.seconds for c in candidates), 3),
        editor=candidates[0].editor,
        potential_range=potential_range,
        notes=notes,
        decisions=(*_prepared(candidates), *decisions),
    )


def _prepared(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """What judges wrote for the task; where a judge was away at first, what it wrote later."""
    return next((one.prepared for one in candidates if one.prepared), ())


def _offered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without choices that the engine or scene lacks, renumbered without gaps."""
    offered = [one for one in candidates if not no_such_choice(one)]
    if any(one.outcome.usable for one in offered):
        # If pausing failed and other trials replaced these, they are not worth reporting.
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
    """Whether a face swap failed because the engine or scene does not offer that choice."""
    return candidate.failure is not None and candidate.failure.code == NO_SUCH_CHOICE


def _hoist_shared_notes(candidates: Sequence[Candidate]) -> tuple[list[Candidate], tuple[str, ...]]:
    """Move notes that all candidates share to the result."""
    alive = [candidate for candidate in candidates if candidate.failure is None]
    if len(alive) < 2:
        return list(candidates), ()
    common = tuple(note for note in alive[0].notes if all(note in c.notes for c in alive))
    return [
        replace(c, notes=tuple(note for note in c.notes if note not in common)) for c in candidates
    ], common


def _no_result_error(candidates: Sequence[Candidate]) -> SearchError:
    failures = {c.failure.message: c.failure for c in candidates if c.failure and not c.pruned}
    if len(failures) == 1:
        # A single reason, such as no face in the mask, already says what to change.
        (only,) = failures.values()
        return SearchError(only.message, code=only.code)
    return SearchError(
        f"None of {len(candidates)} candidates is usable: {'; '.join(sorted(failures)[:3])}",
        hint="Fix the cause, then retry the task.",
    )
