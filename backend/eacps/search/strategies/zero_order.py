"""Zero-order search, as in tt-scale-flux.

Ma et al. (2025), "Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps",
arXiv 2501.09732: starting from a pivot noise, render its neighbours, move the pivot to the best
of them, and repeat. As in tt-scale-flux, a new pivot is drawn when no neighbour is better.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from eacps.domain import Outcome, Trial
from eacps.search.moves import annealed
from eacps.search.parameters import STRICT, AngleDecay, Moves
from eacps.search.ranking import best
from eacps.search.roundwise import RoundwiseStrategy, Search


@dataclass(frozen=True, config=STRICT)
class ZeroOrderParams:
    """Parameters of `zero_order`."""

    stops_early: ClassVar[bool] = True

    rounds: Annotated[int, Field(ge=1, le=1000, description="rounds")] = 2
    num_neighbors: Annotated[
        int, Field(ge=1, le=1000, description="neighbours of the base in a round")
    ] = 3
    threshold: Annotated[
        float,
        Field(
            ge=0.0,
            le=0.9999,
            description="cosine that a neighbour's noise keeps with its base's: "
            "the angle between them is its arc cosine",
        ),
    ] = 0.95
    moves: Moves = "noise"
    angle_decay: AngleDecay = 1.0

    @property
    def budget(self) -> int:
        """The most trials that the search begins; a base found by a move is not rendered again."""
        return self.rounds * (1 + self.num_neighbors)

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for at most this number of candidates."""
        neighbours = max(1, min(self.num_neighbors, budget - 1))
        return {"num_neighbors": neighbours, "rounds": max(1, budget // (1 + neighbours))}


class ZeroOrder(RoundwiseStrategy[ZeroOrderParams]):
    """Rounds of neighbours around a base noise, which moves to a better one or to a fresh noise.

    >>> from eacps.domain import Outcome
    >>> search = ZeroOrder(ZeroOrderParams(rounds=3, num_neighbors=2), seed=7)
    >>> for worth in ({"c3": 1.0}, {}, {}):
    ...     trials = search.ask()
    ...     print([(trial.id, trial.parent) for trial in trials])
    ...     search.tell([Outcome(trial, worth.get(trial.id, 0.0)) for trial in trials])
    [('c1', None), ('c2', 'c1'), ('c3', 'c1')]
    [('c4', 'c3'), ('c5', 'c3')]
    [('c6', None), ('c7', 'c6'), ('c8', 'c6')]
    """

    Params: ClassVar[type[ZeroOrderParams]] = ZeroOrderParams

    def search(self) -> Search[None]:
        """Ask for a base and its neighbours together: they do not depend on the base's score."""
        base: Outcome | None = None
        steps_taken = improvements = 0
        for round_number in range(1, self.params.rounds + 1):
            kept = [base] if base else []
            fresh = [] if base else self.fresh_trials(1, round_number=round_number)
            centre = base.trial if base else fresh[0]
            outcomes = yield [*fresh, *self._neighbours(centre, round_number, steps_taken)]
            leader = best([*kept, *outcomes])
            if leader is None and round_number == 1:
                return
            if leader is not None and leader.trial != centre:
                base, steps_taken, improvements = leader, steps_taken + 1, improvements + 1
            else:
                base, steps_taken = None, 0
        self.note(f"In {improvements} of {self.params.rounds} rounds a neighbour beat its base.")

    def _neighbours(self, base: Trial, round_number: int, steps_taken: int) -> list[Trial]:
        angle = annealed(math.acos(self.params.threshold), self.params.angle_decay, steps_taken)
        return [
            self.child(base, moves=self.params.moves, angle=angle, round_number=round_number)
            for _ in range(self.params.num_neighbors)
        ]
