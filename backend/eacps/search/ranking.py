"""The order of outcomes: best potential first; among equals, the earlier trial first."""

from __future__ import annotations

from collections.abc import Iterable

from eacps.domain import Outcome


def finished(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of trials that were rendered to the end, without those of paused ones."""
    return [outcome for outcome in outcomes if outcome.trial.to_step is None]


def ranked(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The usable outcomes, best first, whatever the order in which they were told.

    Previews rank like results; to rank results only, pass `finished(outcomes)`.
    """
    return sorted((outcome for outcome in outcomes if outcome.usable), key=_place)


def best(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The best of the finished outcomes, or None if none of them is usable."""
    return next(iter(ranked(finished(outcomes))), None)


def _place(outcome: Outcome) -> tuple[float, int, str]:
    # Ids count up (c9, c10), so a shorter id is an earlier one.
    identifier = outcome.trial.id
    return (-(outcome.potential or 0.0), len(identifier), identifier)
