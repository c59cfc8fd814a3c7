"""Pruning by previews, as in successive halving.

All trials advance to the first rung. There the best previews go on to the next rung, and so on;
the trials that are left are finished. Terms: a *rung* is a pair of a share of the steps and a
number to keep, as users write it; a *pause* is the same with a step instead of a share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from eacps.domain import Outcome, Trial
from eacps.search.parameters import Rung
from eacps.search.ranking import ranked
from eacps.search.roundwise import Search

SIMILARITY: Final = "nearest_similarity"
Start = Callable[[int | None], Search[list[Outcome]]]
"""Begins trials and advances them to a step; None means to the end."""
Note = Callable[[str], None]
Settle = Callable[[Sequence[Outcome], int], Search[list[Outcome]]]
"""Decides near-ties among previews, best first, of which so many go on."""


class Pause(NamedTuple):
    """The step at which trials are paused, and how many of them go on."""

    to_step: int
    keep: int


class Order(NamedTuple):
    """Previews, most promising first: those that may go on, and those that only replace others."""

    eligible: list[Outcome]
    spare: list[Outcome]


class Pruned(NamedTuple):
    """The trials left after the last pause, and those that may replace them if they fail."""

    kept: list[Trial]
    reserve: list[Trial]


def by_potential(previews: Sequence[Outcome]) -> Order:
    """All previews, best potential first."""
    return Order(ranked(previews), [])


def step_at(share: float, steps: int) -> int:
    """The step at this share of a render: at least 1 and less than `steps`.

    >>> step_at(0.3, 12), step_at(0.01, 12), step_at(0.99, 12)
    (4, 1, 11)
    """
    return min(max(round(share * steps), 1), steps - 1)


def pauses_of(rungs: Sequence[Rung], steps: int) -> list[Pause]:
    """The rungs before the end as pauses; where several fall on one step, the last one counts.

    >>> pauses_of([(0.3, 4), (0.6, 2), (1.0, 1)], steps=12)
    [Pause(to_step=4, keep=4), Pause(to_step=7, keep=2)]
    >>> pauses_of([(0.3, 4), (0.6, 2), (1.0, 1)], steps=2)
    [Pause(to_step=1, keep=2)]
    """
    if steps < 2:
        return []
    found = {step_at(share, steps): keep for share, keep in rungs if share < 1}
    return [Pause(to_step, keep) for to_step, keep in found.items()]


def cost(count: int, rungs: Sequence[Rung], steps: int) -> float:
    """The cost of `count` trials that are pruned at these rungs, in full renders.

    >>> cost(8, [(0.5, 2)], steps=12)
    5.0
    """
    spent = before = 0
    for to_step, keep in pauses_of(rungs, steps):
        spent += count * (to_step - before)
        count, before = min(count, keep), to_step
    return (spent + count * (steps - before)) / max(1, steps)


def advanced(trials: Sequence[Trial], to_step: int | None) -> list[Trial]:
    """The same trials with another step to advance to."""
    return [replace(trial, to_step=to_step) for trial in trials]


def start_all(trials: Sequence[Trial]) -> Start:
    """A `Start` that begins all trials in one round."""

    def start(to_step: int | None) -> Search[list[Outcome]]:
        return list((yield advanced(trials, to_step)))

    return start


def without_duplicates(best_first: Sequence[Outcome], limit: float, note: Note) -> Order:
    """Previews that are no more similar than `limit` to a better one, and in reserve the others.

    Only previews that were scored with `nearest_similarity` can be duplicates."""
    unique: list[Outcome] = []
    duplicates: list[Outcome] = []
    for outcome in best_first:
        similarity = min(outcome.scores.get(SIMILARITY, -1.0), 1.0)
        (duplicates if unique and similarity > limit else unique).append(outcome)
    if duplicates:
        note(f"Left out as near-duplicates of better previews: {list_ids(duplicates)}.")
    return Order(unique, duplicates)


def as_they_are(best_first: Sequence[Outcome], _keep: int) -> Search[list[Outcome]]:
    """The usual `Settle`: of equal previews, the earlier one goes on."""
    yield from ()
    return list(best_first)


def prune(
    previews: Sequence[Outcome],
    pauses: Sequence[Pause],
    note: Note,
    order: Callable[[Sequence[Outcome]], Order] = by_potential,
    settle: Settle = as_they_are,
) -> Search[Pruned]:
    """Prune trials from the previews of the first pause to those of the last one."""
    kept: list[Outcome] = []
    reserve: list[Outcome] = []
    for index, (to_step, keep) in enumerate(pauses):
        eligible, spare = order(previews)
        eligible = yield from settle(eligible, keep)
        kept = eligible[:keep]
        # Trials pruned later come first: they are better known and have fewer steps left.
        reserve = [*eligible[keep:], *spare, *reserve]
        note(f"Step {to_step}: {list_ids(kept)} of {len(previews)} previews went on.")
        if index + 1 < len(pauses):
            following = advanced([outcome.trial for outcome in kept], pauses[index + 1].to_step)
            previews = yield following
    return Pruned([each.trial for each in kept], [each.trial for each in reserve])


def replace_failed(
    outcomes: Sequence[Outcome], reserve: Sequence[Trial], least: int, note: Note
) -> Search[list[Outcome]]:
    """Finish pruned trials in place of failed ones, until `least` results are usable."""
    results, waiting = list(outcomes), list(reserve)
    while waiting and (missing := least - len(ranked(results))) > 0:
        replacements, waiting = waiting[:missing], waiting[missing:]
        note(f"{len(replacements)} pruned came back, because what was kept failed.")
        results += yield advanced(replacements, None)
    return results


def finish_best(
    previews: Sequence[Outcome],
    pauses: Sequence[Pause],
    note: Note,
    least: int = 1,
    settle: Settle = as_they_are,
) -> Search[list[Outcome]]:
    """Prune trials from the first pause on and finish the rest. Pruned trials replace failed ones
    until `least` results are usable."""
    kept, reserve = yield from prune(previews, pauses, note, settle=settle)
    results = yield advanced(kept, None)
    return (yield from replace_failed(results, reserve, least, note))


def successive_halving(
    start: Start,
    rungs: Sequence[Rung],
    steps: int,
    note: Note,
    settle: Settle = as_they_are,
) -> Search[list[Outcome]]:
    """Begin trials, prune them at every rung, and return the finished ones."""
    pauses = pauses_of(rungs, steps)
    if not pauses:
        return (yield from start(None))
    previews = yield from start(pauses[0].to_step)
    closing = rungs[-1]
    least = closing[1] if closing[0] == 1 else 1
    return (yield from finish_best(previews, pauses, note, least, settle))


def list_ids(outcomes: Sequence[Outcome]) -> str:
    """The first few ids, for a note in the report."""
    shown = [outcome.trial.id for outcome in outcomes[:8]]
    more = len(outcomes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
