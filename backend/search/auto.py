"""What the bench recommends: begin many, look early, finish few; and again, while none is good."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from backend.domain import Outcome
from backend.search import rungs as climbing
from backend.search.params import STRICT
from backend.search.ranking import best, finished
from backend.search.roundwise import Course, RoundwiseStrategy
from backend.search.rungs import Look, Rungs
from backend.search.verdict import answers

CANNOT_PAUSE = "cannot_pause"
"""Code of a trial whose editor cannot stop on the way."""
FEWEST_STEPS = 5
"""With fewer steps a preview comes too late to save anything."""
MOST_WAVES = 4
GOOD = 0.85
"""No other wave begins once a verifier's weakest answer to a result is at least this."""


@dataclass(frozen=True, config=STRICT)
class AutoParams:
    """Settings of `auto`."""

    renders: Annotated[
        int,
        Field(
            ge=2,
            le=100_000,
            description="what an average task may cost, in full renders; hard tasks take up to "
            "twice that, easy ones half",
        ),
    ] = 8

    @property
    def budget(self) -> int:
        """How many trials begin at most."""
        return MOST_WAVES * self.renders

    @property
    def wave(self) -> Rungs:
        """With a verifier: half go on after a fifth of the way, a quarter to the end."""
        return ((0.2, ceil(self.renders / 2)), (0.4, ceil(self.renders / 4)))

    @property
    def halving(self) -> Rungs:
        """Without one, of twice as many: what goes on after a fifth, and after half of the way."""
        return ((0.2, ceil(self.renders * 5 / 8)), (0.5, ceil(self.renders * 3 / 8)))

    def cost(self, steps: int) -> float:
        """What the search costs in full renders at most, when nothing fails."""
        if steps < FEWEST_STEPS:
            return self.renders
        wave = climbing.cost(self.renders, climbing.looks(self.wave, steps), steps)
        halving = climbing.cost(2 * self.renders, climbing.looks(self.halving, steps), steps)
        return max(MOST_WAVES * wave, halving)


class Auto(RoundwiseStrategy[AutoParams]):
    """The search that the bench recommends: with a verifier `waves`, without one `halving`.

    An editor that cannot pause, or takes too few steps for it, gets as many full attempts as the
    budget pays for.

    >>> from backend.domain import Outcome
    >>> search = Auto(AutoParams(renders=4), seed=7, steps=10)
    >>> while trials := search.ask():
    ...     print([(trial.id, trial.to_step) for trial in trials])
    ...     search.tell([Outcome(trial, 0.9, {"satisfied": 0.9}) for trial in trials])
    [('c1', 2), ('c2', 2), ('c3', 2), ('c4', 2)]
    [('c1', 4), ('c2', 4)]
    [('c1', None)]
    >>> search.notes[-1]
    'Stopped after wave 1 of 4: c1 is good enough.'
    """

    Params: ClassVar[type[AutoParams]] = AutoParams

    def search(self) -> Course:
        """A first look at a wave decides which of the ways it is."""
        renders = self.params.renders
        if self.steps < FEWEST_STEPS:
            self.note(f"auto: {self.steps} steps are too few to look on the way.")
            yield self.fresh_trials(renders)
            return
        stops = climbing.looks(self.params.wave, self.steps)
        previews = yield climbing.advanced(self.fresh_trials(renders), stops[0].to_step)
        if all(map(_cannot_pause, previews)):
            self.note("auto: this editor cannot pause, so every attempt is finished.")
            yield self.fresh_trials(renders)
        elif any(answers(preview.scores) for preview in previews):
            yield from self._waves(previews, stops)
        else:
            yield from self._halving(previews)

    def _waves(self, previews: Sequence[Outcome], stops: list[Look]) -> Course:
        self.note("auto: waves, because a verifier judges; in the bench they find most.")
        for number in range(1, MOST_WAVES + 1):
            if number > 1:
                begun = self.fresh_trials(self.params.renders, round_number=number - 1)
                previews = yield climbing.advanced(begun, stops[0].to_step)
            kept, reserve = yield from climbing.prune(previews, stops, self.note)
            results = list((yield climbing.advanced(kept, None)))
            results = yield from climbing.with_stand_ins(results, reserve, 1, self.note)
            leader = best(finished(results))
            if leader is None:
                return
            if min(answers(leader.scores).values(), default=0.0) >= GOOD:
                self.note(
                    f"Stopped after wave {number} of {MOST_WAVES}: {leader.trial.id} is good "
                    "enough."
                )
                return

    def _halving(self, previews: Sequence[Outcome]) -> Course:
        self.note("auto: halving, because no verifier judges when a result is good enough.")
        stops = climbing.looks(self.params.halving, self.steps)
        more = self.fresh_trials(self.params.renders)
        previews = [*previews, *(yield climbing.advanced(more, stops[0].to_step))]
        kept, reserve = yield from climbing.prune(previews, stops, self.note)
        results = list((yield climbing.advanced(kept, None)))
        yield from climbing.with_stand_ins(results, reserve, 1, self.note)


def _cannot_pause(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.code == CANNOT_PAUSE
