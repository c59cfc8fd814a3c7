"""What the bench recommends: begin many, look early, finish few; and again, while none is good."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.domain import Outcome
from eacps.search import pruning
from eacps.search.parameters import STRICT, Rungs
from eacps.search.pruning import Pause
from eacps.search.ranking import best
from eacps.search.roundwise import RoundwiseStrategy, Search
from eacps.search.verdict import answers

CANNOT_PAUSE = "cannot_pause"
"""Code of a trial whose editor cannot stop on the way."""
FEWEST_STEPS = 4
"""With fewer steps a preview comes too late to save anything."""
MOST_WAVES = 4
GOOD = 0.85
"""No other wave begins once a verifier's weakest answer to a result is at least this."""


@dataclass(frozen=True, config=STRICT)
class AutoParams:
    """Settings of `auto`."""

    stops_early: ClassVar[bool] = True

    renders: Annotated[
        int,
        Field(
            ge=2,
            le=100_000,
            description="what an average task may cost, in full renders; with a verifier easy "
            "tasks take half of it and hard ones about twice as much",
        ),
    ] = 8

    @property
    def budget(self) -> int:
        """How many trials begin at most."""
        return MOST_WAVES * self.renders

    @property
    def rungs(self) -> Rungs:
        """Of a wave: a quarter goes on after two fifths of the way, to the end."""
        return ((0.4, ceil(self.renders / 4)),)

    def cost(self, steps: int) -> float:
        """What the search costs in full renders at most, when nothing fails."""
        if steps < FEWEST_STEPS:
            return self.renders
        return MOST_WAVES * pruning.cost(self.renders, self.rungs, steps)


class Auto(RoundwiseStrategy[AutoParams]):
    """The search that the bench recommends: `waves` with a verifier, else independent attempts.

    An editor that cannot pause, or takes too few steps for it, gets independent attempts too.

    >>> from eacps.domain import Outcome
    >>> search = Auto(AutoParams(renders=4), seed=7, steps=10)
    >>> while trials := search.ask():
    ...     print([(trial.id, trial.to_step) for trial in trials])
    ...     search.tell([Outcome(trial, 0.9, {"satisfied": 0.9}) for trial in trials])
    [('c1', 4), ('c2', 4), ('c3', 4), ('c4', 4)]
    [('c1', None)]
    >>> search.notes[-1]
    'Stopped after wave 1 of 4: c1 is good enough.'
    """

    Params: ClassVar[type[AutoParams]] = AutoParams

    def search(self) -> Search[None]:
        """What the first previews come with decides which of the ways it is."""
        trials = self.fresh_trials(self.params.renders)
        if self.steps < FEWEST_STEPS:
            self.note(f"auto: {self.steps} steps are too few to look on the way.")
            yield trials
            return
        pauses = pruning.pauses_of(self.params.rungs, self.steps)
        previews = yield pruning.advanced(trials, pauses[0].to_step)
        if all(map(_cannot_pause, previews)):
            self.note("auto: this editor cannot pause, so every attempt is finished.")
            yield self.fresh_trials(self.params.renders)
        elif any(answers(preview.scores) for preview in previews):
            yield from self._waves(previews, pauses)
        else:
            self.note("auto: without a verifier previews decide nothing; all are finished.")
            alive = [preview.trial for preview in previews if preview.usable]
            yield pruning.advanced(alive, None)

    def _waves(self, previews: Sequence[Outcome], pauses: Sequence[Pause]) -> Search[None]:
        self.note("auto: waves, because a verifier judges; in the bench they find most.")
        for number in range(1, MOST_WAVES + 1):
            if number > 1:
                begun = self.fresh_trials(self.params.renders, round_number=number - 1)
                previews = yield pruning.advanced(begun, pauses[0].to_step)
            leader = best((yield from pruning.finish_best(previews, pauses, self.note)))
            if leader is None:
                return
            if min(answers(leader.scores).values(), default=0.0) >= GOOD:
                self.note(
                    f"Stopped after wave {number} of {MOST_WAVES}: {leader.trial.id} is good "
                    "enough."
                )
                return


def _cannot_pause(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.code == CANNOT_PAUSE
