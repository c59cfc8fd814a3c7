"""The default search: successive halving in waves when a verifier judges, else best of N.

With a verifier it begins many candidates, prunes them early by their previews, finishes a few, and
repeats until a result is good, so that easy tasks cost less than hard ones. Without a verifier
pruning gained nothing in the benchmark (docs/search.md), so all candidates are finished.
"""

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
from eacps.search.quality import answers
from eacps.search.ranking import best
from eacps.search.roundwise import RoundwiseStrategy, Search

CANNOT_PAUSE = "cannot_pause"
"""The failure code of a trial whose editor cannot pause."""
MIN_STEPS = 4
"""With fewer steps, previews come too late to save anything."""
MAX_WAVES = 4
GOOD_QUALITY = 0.85
"""The search stops when a verifier's lowest answer to a result is at least this."""


@dataclass(frozen=True, config=STRICT)
class AutoParams:
    """Parameters of `auto`."""

    stops_early: ClassVar[bool] = True
    budgets_average: ClassVar[bool] = True

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
        """The most trials that the search begins."""
        return MAX_WAVES * self.renders

    def within(self, budget: int) -> dict[str, int]:
        """Parameters with which an average task costs this number of full renders."""
        return {"renders": max(2, budget)}

    @property
    def rungs(self) -> Rungs:
        """The rungs of a wave: after 40 % of the steps, a quarter of the candidates is finished."""
        return ((0.4, ceil(self.renders / 4)),)

    def cost(self, steps: int) -> float:
        """The most that the search costs in full renders when nothing fails."""
        if steps < MIN_STEPS:
            return self.renders
        return MAX_WAVES * pruning.cost(self.renders, self.rungs, steps)


class Auto(RoundwiseStrategy[AutoParams]):
    """The default: `waves` where a verifier judges, else independent attempts.

    Attempts are also independent if the editor cannot pause or takes too few steps for it.

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
    _has_waves = False

    @property
    def expected(self) -> int:
        """The most trials that it will have begun: one wave until a verifier is seen to judge."""
        return self.params.budget if self._has_waves else self.params.renders

    def search(self) -> Search[None]:
        """Choose between waves and independent attempts by the scores of the first previews."""
        trials = self.fresh_trials(self.params.renders)
        if self.steps < MIN_STEPS:
            self.note(f"auto: {self.steps} steps are too few for previews.")
            yield trials
            return
        pauses = pruning.pauses_of(self.params.rungs, self.steps)
        previews = yield pruning.advanced(trials, pauses[0].to_step)
        if all(map(_cannot_pause, previews)):
            self.note("auto: this editor cannot pause, so all attempts are finished.")
            yield self.fresh_trials(self.params.renders)
        elif any(answers(preview.scores) for preview in previews):
            yield from self._waves(previews, pauses)
        else:
            self.note("auto: there is no verifier to judge previews, so all attempts are finished.")
            alive = [preview.trial for preview in previews if preview.usable]
            yield pruning.advanced(alive, None)

    def _waves(self, previews: Sequence[Outcome], pauses: Sequence[Pause]) -> Search[None]:
        self._has_waves = True
        self.note("auto: a verifier judges, so candidates are pruned in waves.")
        for number in range(1, MAX_WAVES + 1):
            if number > 1:
                begun = self.fresh_trials(self.params.renders, round_number=number - 1)
                previews = yield pruning.advanced(begun, pauses[0].to_step)
            leader = best((yield from pruning.finish_best(previews, pauses, self.note)))
            if leader is None:
                return
            if min(answers(leader.scores).values(), default=0.0) >= GOOD_QUALITY:
                self.note(
                    f"Stopped after wave {number} of {MAX_WAVES}: {leader.trial.id} is good enough."
                )
                return


def _cannot_pause(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.code == CANNOT_PAUSE
