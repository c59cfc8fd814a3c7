"""Ask and tell from a generator, so that a round-by-round strategy reads like its algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Generic, TypeAlias, TypeVar

from eacps.domain import Noise, Outcome, Stage, Trial
from eacps.search import comparing
from eacps.search.parameters import MoveKind
from eacps.search.protocol import AskTellError, Params
from eacps.search.seeds import Seeds

P = TypeVar("P", bound=Params)
T = TypeVar("T")
Search: TypeAlias = Generator[Sequence[Trial], Sequence[Outcome], T]
"""A search or a part of one: yields trials, receives their outcomes, returns its result."""


class RoundwiseStrategy(ABC, Generic[P]):
    """Turns `search`, a generator of rounds, into a Strategy, and checks the rules of ask/tell."""

    def __init__(self, params: P, *, seed: int = 0, batch_size: int = 4, steps: int = 12) -> None:
        self.params = params
        self.batch_size = batch_size
        self.steps = steps
        self.seeds = Seeds(seed)
        self._count = 0
        self._notes: list[str] = []
        self._round: Sequence[Trial] | None = None
        self._waiting: dict[str, Trial] = {}
        self._told: dict[str, Outcome] = {}
        self._finished: set[tuple[str, int | None]] = set()
        self._search = self.search()

    near: float = 0.0
    """Potentials that differ by no more nearly tie; the runner derives it from their range."""

    @abstractmethod
    def search(self) -> Search[None]:
        """Yield the trials of each round; each yield returns their outcomes in the same order.

        In `seen = yield trials`, the outcomes include failures; `ranked(seen)` leaves them out.
        """

    @property
    def notes(self) -> Sequence[str]:
        """The decisions so far, and the reasons for them. See Strategy.notes."""
        return tuple(self._notes)

    def note(self, sentence: str) -> None:
        """Record a decision for the report."""
        self._notes.append(sentence)

    def trial(
        self,
        noise: Noise,
        *,
        stage: Stage = "global",
        round_number: int = 0,
        parent: Trial | None = None,
        suffix: str = "",
        again: bool = False,
    ) -> Trial:
        """The next trial, under the next id (c1, c2, ...); `again`: it edits its parent's
        picture."""
        self._count += 1
        parent_id = parent.id if parent else None
        return Trial(
            *(f"c{self._count}", noise, stage, round_number, parent_id),
            instruction_suffix=suffix,
            again=again,
        )

    def fresh_trials(self, count: int, *, round_number: int = 0) -> list[Trial]:
        """`count` global trials with independent noises."""
        return [
            self.trial(Noise(self.seeds.fresh()), round_number=round_number) for _ in range(count)
        ]

    def child(
        self, parent: Trial, *, moves: MoveKind, angle: float, round_number: int, suffix: str = ""
    ) -> Trial:
        """A local trial from its parent's noise turned by `angle`, or its parent's seed plus 1, 2,
        ..."""
        if moves == "seed":
            noise = Noise(self.seeds.after(parent.noise.seed))
        else:
            noise = parent.noise.moved(angle, self.seeds.fresh())
        return self.trial(
            noise, stage="local", round_number=round_number, parent=parent, suffix=suffix
        )

    def settled(self, best_first: Sequence[Outcome], keep: int, most: int) -> Search[list[Outcome]]:
        """The same outcomes, after those that nearly tie for the best `keep` met in pairs, at most
        `most` of them; 0: none."""
        return (yield from comparing.settled(best_first, keep, most, self.near, self.note))

    def ask(self) -> Sequence[Trial]:
        """The next round of trials; [] when finished. See Strategy.ask."""
        if self._waiting:
            some = ", ".join(list(self._waiting)[:5])
            raise AskTellError(
                f"{len(self._waiting)} trials have no outcome yet, including {some}.",
                hint="Call `tell` with the outcome of every trial before you call `ask` again.",
            )
        try:
            if self._round is None:
                self._round = next(self._search)
            else:
                self._round = self._search.send([self._told[trial.id] for trial in self._round])
            while not self._round:  # skip empty rounds, because [] means finished
                self._round = self._search.send([])
        except StopIteration:
            self._round = []
        self._told = {}
        self._waiting = {trial.id: trial for trial in self._round}
        return list(self._round)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Record how trials ended. See Strategy.tell."""
        told: dict[str, Outcome] = {}
        for outcome in outcomes:
            self._check(outcome, told)
            told[outcome.trial.id] = outcome
        for identifier, outcome in told.items():
            del self._waiting[identifier]
            if not comparing.is_comparison([outcome.trial]):
                self._finished.add((identifier, outcome.trial.to_step))
        self._told |= told

    def _check(self, outcome: Outcome, told: dict[str, Outcome]) -> None:
        identifier = outcome.trial.id
        ended = (identifier, outcome.trial.to_step) in self._finished
        compared = comparing.is_comparison([outcome.trial]) and identifier in self._waiting
        if identifier in told or (ended and not compared):
            problem = "already has an outcome"
        elif identifier not in self._waiting:
            problem = "was never asked for"
        elif outcome.trial != self._waiting[identifier]:
            problem = "is not the trial that was asked for under this id"
        else:
            return
        raise AskTellError(
            f"Trial {identifier} {problem}.",
            hint="Pass each trial to `tell` exactly once, as `ask` returned it.",
        )
