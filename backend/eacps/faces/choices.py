"""The recipes of a face swap that are offered for review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

from eacps.domain import DEFAULT_BOOST, DEFAULT_SHAPE, Noise, Outcome, SearchPlan, Swap, Trial
from eacps.settings import Settings

STRATEGY: Final = "choices"
NO_SUCH_CHOICE: Final = "no_such_choice"
"""Code of a trial that the engine or the scene does not offer; it gets no card."""
AT_ONCE: Final = 32


def plan_of(settings: Settings) -> SearchPlan:
    """The choices of the settings, in one batch, so that faces are detected only once."""
    return SearchPlan(
        STRATEGY,
        {
            "alternatives": settings.face_alternatives,
            "boosts": list(settings.face_boosts),
            "restores": [True, False] if settings.face_restorer else [False],
            "blends": list(settings.face_blends),
            "shapes": list(settings.face_shapes),
        },
        settings.seed,
        AT_ONCE,
    )


def swaps_of(plan: SearchPlan) -> tuple[Swap, ...]:
    """All recipes: the most likely mapping in all variants, then other mappings in one variant.

    >>> plan = SearchPlan("choices", {"alternatives": 2, "blends": [1.0, 0.8]})
    >>> [swap.words for swap in swaps_of(plan)]
    ['blend 100%', 'blend 80%', 'blend 100%, another face']
    """
    params: dict[str, Any] = dict(plan.params)
    looks = product(
        params.get("restores", [False]),
        params.get("blends", [1.0]),
        params.get("shapes", [DEFAULT_SHAPE]),
        params.get("boosts", [DEFAULT_BOOST]),
    )
    first = [
        Swap(0, int(boost), bool(restore), float(blend), float(shape))
        for restore, blend, shape, boost in looks
    ]
    others = [
        replace(first[0], assignment=index)
        for index in range(1, int(params.get("alternatives", 1)))
    ]
    return (*first, *others)


class SwapChoices:
    """A strategy that requests all choices at once."""

    def __init__(self, plan: SearchPlan) -> None:
        self._trials = [
            Trial(f"c{number}", Noise(plan.seed), swap=swap)
            for number, swap in enumerate(swaps_of(plan), start=1)
        ]

    @property
    def notes(self) -> Sequence[str]:
        """Always empty, because nothing is decided during the search."""
        return ()

    def ask(self) -> Sequence[Trial]:
        """All trials on the first call, then none."""
        trials, self._trials = self._trials, []
        return trials

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Do nothing, because there is only one round."""
