"""EACPS: a global search, then a local search around its best candidates.

1. Global stage: render `k` candidates from independent noises and score each by the potential,
   `pf + 10 cons - 3 lpips` by default: prompt following plus consistency with the source minus
   perceptual distance to it (see scoring/potential.py).
2. Local rounds: take the `m` best candidates so far as elites, and render `k_local` children of
   each, whose noises are turned from the elite's by `angle`. The angle shrinks by `angle_decay`
   from round to round (annealing).
3. The candidate with the highest potential of all stages wins. With the default 4/2/2 that is the
   best of k + m k_local = 8 candidates.

Two options change what it spends: `rungs` prunes candidates by their previews, and `adaptive` ends
a stage when another candidate is expected to gain too little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from eacps.domain import Outcome
from eacps.search import pruning
from eacps.search.gain import expected_gain
from eacps.search.moves import annealed
from eacps.search.parameters import (
    STRICT,
    Angle,
    AngleDecay,
    Moves,
    PairwiseElites,
    Rungs,
    require_at_most,
)
from eacps.search.ranking import ranked
from eacps.search.roundwise import RoundwiseStrategy, Search

Count = Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True, config=STRICT)
class EacpsParams:
    """Parameters of `eacps`."""

    k: Annotated[Count, Field(description="candidates of the global stage")] = 4
    m: Annotated[Count, Field(description="elites kept for each local round, at most k")] = 2
    k_local: Annotated[Count, Field(description="children of each elite in a local round")] = 2
    rounds: Annotated[int, Field(ge=1, le=100, description="local rounds")] = 1
    pairwise_elites: PairwiseElites = 0
    moves: Moves = "noise"
    angle: Angle = 0.4
    angle_decay: AngleDecay = 0.5
    rungs: Annotated[
        Rungs,
        Field(
            description="early feedback: global candidates are pruned by their previews, "
            "in pairs as in `halving`; must keep at least m"
        ),
    ] = ()
    local_rungs: Annotated[
        Rungs, Field(description="the same for the children of each local round")
    ] = ()
    adaptive: Annotated[
        bool, Field(description="stop when another candidate promises too little")
    ] = False
    k_first: Annotated[
        Count, Field(description="adaptive: global candidates before the first decision")
    ] = 4
    least_gain: Annotated[
        float,
        Field(
            ge=0.0,
            description="adaptive: the expected gain, in units of the potential, "
            "that another candidate must promise",
        ),
    ] = 0.01

    @model_validator(mode="after")
    def _elites_come_from_the_global_stage(self) -> Self:
        require_at_most(m=self.m, k=self.k)
        kept = min((keep for _, keep in self.rungs), default=self.k)
        if any(share < 1 for share, _ in self.rungs) and self.m > kept:
            raise ValueError(f"m ({self.m}) must not be greater than what rungs keep ({kept})")
        return self

    @property
    def budget(self) -> int:
        """The number of trials that the search begins; an adaptive one may begin fewer."""
        return self.k + self.rounds * self.m * self.k_local

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for this number of candidates: about half of them in the global stage."""
        elites = max(1, min(self.m, budget // 4))
        rounds = max(1, min(self.rounds, budget // (4 * elites)))
        children = max(1, budget // (2 * elites * rounds))
        explored = max(1, budget - rounds * elites * children)
        return {"k": explored, "m": elites, "k_local": children, "rounds": rounds}

    @property
    def stops_early(self) -> bool:
        """Whether the search may begin fewer trials than its budget."""
        return self.adaptive

    def cost(self, steps: int) -> float:
        """The cost in full renders when nothing fails; an adaptive search may cost less."""
        children = pruning.cost(self.m * self.k_local, self.local_rungs, steps)
        return pruning.cost(self.k, self.rungs, steps) + self.rounds * children

    def angle_of(self, round_number: int) -> float:
        """The angle of a local round; rounds are counted from 1."""
        return annealed(self.angle, self.angle_decay, round_number - 1)


class Eacps(RoundwiseStrategy[EacpsParams]):
    """K global candidates, then rounds of K_local children around the M best so far.

    >>> from eacps.domain import Outcome
    >>> search = Eacps(EacpsParams(k=4, m=1, k_local=2), seed=7)
    >>> search.tell([Outcome(trial, potential=int(trial.id[1:])) for trial in search.ask()])
    >>> [(trial.id, trial.lineage) for trial in search.ask()]
    [('c5', 'child of c4 at angle 0.4'), ('c6', 'child of c4 at angle 0.4')]
    """

    Params: ClassVar[type[EacpsParams]] = EacpsParams
    _first_scores: Sequence[float] = ()

    def search(self) -> Search[None]:
        """Choose the elites of each round from all candidates so far, not only the last round's."""
        seen = yield from pruning.successive_halving(
            self._begin, self.params.rungs, self.steps, self.note
        )
        explored = _top(seen)
        for round_number in range(1, self.params.rounds + 1):
            best_first = ranked(seen)
            if not best_first or not self._another_round(round_number, _top(seen) - explored):
                return
            best_first = yield from self.settled(
                best_first, self.params.m, self.params.pairwise_elites
            )
            elites = best_first[: self.params.m]
            children = pruning.start_all(
                [
                    self.child(
                        elite.trial,
                        moves=self.params.moves,
                        angle=self.params.angle_of(round_number),
                        round_number=round_number,
                    )
                    for elite in elites
                    for _ in range(self.params.k_local)
                ]
            )
            outcomes = yield from pruning.successive_halving(
                children, self.params.local_rungs, self.steps, self.note
            )
            # A candidate that was no elite before cannot become one later.
            seen = [*elites, *outcomes]

    def _begin(self, to_step: int | None) -> Search[list[Outcome]]:
        """Begin the global candidates: all `k` at once, or in batches while another one pays."""
        params = self.params
        first = max(params.k_first, params.m, self.batch_size) if params.adaptive else params.k
        outcomes: list[Outcome] = []
        count = min(params.k, first)
        while count:
            outcomes += yield pruning.advanced(self.fresh_trials(count), to_step)
            self._first_scores = [each.potential or 0.0 for each in ranked(outcomes)]
            count = min(self.batch_size, params.k - len(outcomes))
            if count and not self._another_candidate(len(outcomes)):
                break
        return outcomes

    def _another_candidate(self, count: int) -> bool:
        scores = self._first_scores
        if not scores:
            return False
        gain = expected_gain(scores, max(scores))
        if gain >= self.params.least_gain:
            return True
        self.note(
            f"The global stage stopped after {count} of {self.params.k} candidates: "
            f"{self._too_little(gain)}"
        )
        return False

    def _another_round(self, round_number: int, progress: float) -> bool:
        """Whether another local round pays; `progress` is what local rounds have gained so far."""
        if not self.params.adaptive:
            return True
        # With rungs, these are scores of previews, which must not be compared with final scores.
        # So add the gain of the local rounds to the best preview.
        scores = self._first_scores
        angle = self.params.angle_of(round_number)
        correlation = math.cos(angle) if self.params.moves == "noise" else 0.0
        gain = expected_gain(scores, max(scores) + progress, correlation=correlation)
        if gain >= self.params.least_gain:
            return True
        self.note(
            f"Local search stopped before round {round_number} of {self.params.rounds}: "
            f"{self._too_little(gain)}"
        )
        return False

    def _too_little(self, gain: float) -> str:
        return f"another was expected to gain {gain:.2g}, less than {self.params.least_gain:g}."


def _top(outcomes: list[Outcome]) -> float:
    return max((each.potential or 0.0 for each in ranked(outcomes)), default=0.0)
