"""EACPS: explore globally, keep an elite, search locally around it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from backend.domain import Noise, Trial
from backend.search.params import STRICT
from backend.search.ranking import ranked
from backend.search.roundwise import Course, RoundwiseStrategy

# Below this angle a child is, in half precision, hardly more than a copy of its parent.
SMALLEST_ANGLE = 0.01
Count = Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True, config=STRICT)
class EacpsParams:
    """Settings of `eacps`."""

    k: Annotated[Count, Field(description="candidates of the global stage")] = 4
    m: Annotated[Count, Field(description="elites kept for each local round, at most k")] = 2
    k_local: Annotated[Count, Field(description="children of each elite in a local round")] = 2
    rounds: Annotated[int, Field(ge=1, le=100, description="local rounds")] = 1
    moves: Annotated[
        Literal["noise", "seed"],
        Field(
            description="how children arise: `noise` turns the elite's noise by an angle, "
            "`seed` adds an offset to its seed, which gives unrelated noise"
        ),
    ] = "noise"
    angle: Annotated[
        float,
        Field(
            ge=SMALLEST_ANGLE,
            le=1.57,
            description="radians between elite and child; their noises correlate by its cosine",
        ),
    ] = 0.4
    angle_decay: Annotated[
        float,
        Field(
            ge=0.1,
            le=1.0,
            description="annealing: factor on the angle from one local round to the next "
            f"(never below {SMALLEST_ANGLE})",
        ),
    ] = 0.5

    @model_validator(mode="after")
    def _elites_come_from_the_global_stage(self) -> Self:
        if self.m > self.k:
            raise ValueError(f"m ({self.m}) must not be greater than k ({self.k})")
        return self

    @property
    def budget(self) -> int:
        """How many trials these settings use when nothing fails."""
        return self.k + self.rounds * self.m * self.k_local

    def angle_of(self, round_number: int) -> float:
        """The angle of local round `round_number`, counted from 1."""
        return max(SMALLEST_ANGLE, self.angle * self.angle_decay ** (round_number - 1))


class Eacps(RoundwiseStrategy[EacpsParams]):
    """K global candidates, then rounds of K_local children around the M best so far.

    >>> from backend.domain import Outcome
    >>> search = Eacps(EacpsParams(k=4, m=1, k_local=2), seed=7)
    >>> search.tell([Outcome(trial, potential=int(trial.id[1:])) for trial in search.ask()])
    >>> [(trial.id, trial.lineage) for trial in search.ask()]
    [('c5', 'child of c4 at angle 0.4'), ('c6', 'child of c4 at angle 0.4')]
    """

    Params: ClassVar[type[EacpsParams]] = EacpsParams

    def search(self) -> Course:
        """Elites of a later round come from all candidates so far, not from the last round only."""
        seen = yield self.fresh_trials(self.params.k)
        for round_number in range(1, self.params.rounds + 1):
            elites = ranked(seen)[: self.params.m]
            if not elites:
                return
            outcomes = yield [
                self._child(elite.trial, round_number)
                for elite in elites
                for _ in range(self.params.k_local)
            ]
            # Who was not an elite before cannot become one now, so the elites stand for all.
            seen = [*elites, *outcomes]

    def _child(self, parent: Trial, round_number: int) -> Trial:
        if self.params.moves == "seed":
            noise = Noise(self.seeds.after(parent.noise.seed))
        else:
            noise = parent.noise.moved(self.params.angle_of(round_number), self.seeds.fresh())
        return self.trial(noise, stage="local", round_number=round_number, parent=parent)
