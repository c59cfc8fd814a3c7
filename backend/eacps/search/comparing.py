"""Pairs at a cut-off: candidates whose potentials nearly tie there meet in pairs, and the stronger
ones are kept.

A search that keeps the best few of many must choose even where a judge's scores say nothing about
the order. It may then ask for a comparison: a round of trials that were told before, with the stage
`final`. Nothing is rendered for it, and each outcome has the score `preference`, the trial's
strength among them, or lacks it if no judge compared them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Final

from eacps.domain import Outcome, Trial

PREFERENCE: Final = "preference"
"""The score of a trial that was compared in pairs: its strength among those that met."""
Comparison = Generator[Sequence[Trial], Sequence[Outcome], list[Outcome]]


def is_comparison(trials: Sequence[Trial]) -> bool:
    """Whether a round only compares what is rendered already."""
    return bool(trials) and all(trial.stage == "final" for trial in trials)


def settled(
    best_first: Sequence[Outcome], keep: int, most: int, near: float, note: Callable[[str], None]
) -> Comparison:
    """The same outcomes; at most `most` that nearly tie where the first `keep` end are compared in
    pairs, and stand in the order of their strength."""
    meeting = nearly_tied(best_first, keep, most, near)
    if not meeting:
        return list(best_first)
    tied = [best_first[place] for place in meeting]
    answered = yield [replace(each.trial, stage="final") for each in tied]
    strengths = [each.scores.get(PREFERENCE) for each in answered]
    known = [each for each in strengths if each is not None]
    names = ", ".join(each.trial.id for each in tied)
    if len(known) < len(tied):
        note(f"{names} nearly tie for the best {keep}; no judge compared them in pairs.")
        return list(best_first)
    order = sorted(range(len(tied)), key=lambda place: (-known[place], place))
    stronger = [tied[place] for place in order]
    kept = ", ".join(each.trial.id for each in stronger[: keep - meeting.start])
    note(f"{names} nearly tied for the best {keep}, and were compared in pairs: {kept} went on.")
    return [*best_first[: meeting.start], *stronger, *best_first[meeting.stop :]]


def nearly_tied(best_first: Sequence[Outcome], keep: int, most: int, near: float) -> range:
    """The places of those that nearly tie with the other side of the cut-off after `keep`, the
    nearest ones if there are more than `most`; empty if nobody does.

    >>> from eacps.domain import Noise
    >>> def places(*potentials, keep, most=4):
    ...     found = [Outcome(Trial("c1", Noise(1)), each) for each in potentials]
    ...     return list(nearly_tied(found, keep, most, near=1.0))
    >>> places(9, 8, 5.5, 5, 4.8, 1, keep=3)
    [2, 3, 4]
    >>> places(9, 8, 5, 1, keep=2)
    []
    >>> places(5, 5, 5, 5, 5, keep=2, most=3)
    [0, 1, 2]
    """
    potentials = [each.potential or 0.0 for each in best_first]
    if most < 2 or not 0 < keep < len(potentials):
        return range(0)
    last, next_one = potentials[keep - 1], potentials[keep]
    if last - next_one > near:
        return range(0)
    low, high = keep - 1, keep + 1
    while high - low < most:
        above = potentials[low - 1] - next_one if low else near + 1
        below = last - potentials[high] if high < len(potentials) else near + 1
        if min(above, below) > near:
            break
        low, high = (low - 1, high) if above <= below else (low, high + 1)
    return range(low, high)
