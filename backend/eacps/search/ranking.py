"""The one order of outcomes: best potential first, earlier trial first among equals."""

from __future__ import annotations

from collections.abc import Iterable

from eacps.domain import Outcome


def finished(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of trials that went to the end; those of paused trials are left out."""
    return [outcome for outcome in outcomes if outcome.trial.to_step is None]


def ranked(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The usable outcomes, best first; the order in which they were told plays no part.

    Previews rank like results: what mixes the two should pass only the `finished` ones.
    """
    return sorted((outcome for outcome in outcomes if outcome.usable), key=_place)


def best(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The best of the finished outcomes, or None when there is no usable one."""
    return next(iter(ranked(finished(outcomes))), None)


def _place(outcome: Outcome) -> tuple[float, int, str]:
    # Ids count up (c9, c10), so a shorter id is an earlier one.
    identifier = outcome.trial.id
    return (-(outcome.potential or 0.0), len(identifier), identifier)
