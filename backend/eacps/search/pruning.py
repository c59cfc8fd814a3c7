"""Pruning by previews: advance all, keep the best at every rung, finish what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from eacps.domain import Outcome, Trial
from eacps.search.parameters import Rung
from eacps.search.ranking import ranked
from eacps.search.roundwise import Search

Start = Callable[[int | None], Search[list[Outcome]]]
"""Begins trials and advances them to the first step that counts."""
Note = Callable[[str], None]


class Pause(NamedTuple):
    """Where trials are paused, and how many of them may go on."""

    to_step: int
    keep: int


class Order(NamedTuple):
    """Previews in order of promise: those that may go on, and those that only stand in."""

    eligible: list[Outcome]
    spare: list[Outcome]


class Pruned(NamedTuple):
    """What is left after the last pause, and who stands in for it, most promising first."""

    kept: list[Trial]
    reserve: list[Trial]


def by_potential(previews: Sequence[Outcome]) -> Order:
    """The plain order of promise."""
    return Order(ranked(previews), [])


def step_at(share: float, steps: int) -> int:
    """The step at this share of a render, never its very beginning or end.

    >>> step_at(0.3, 12), step_at(0.01, 12), step_at(0.99, 12)
    (4, 1, 11)
    """
    return min(max(round(share * steps), 1), steps - 1)


def pauses_of(rungs: Sequence[Rung], steps: int) -> list[Pause]:
    """Rungs before the end as steps; of rungs that fall on the same step the last one counts.

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
    """What `count` trials cost that are pruned at these rungs, in full renders.

    >>> cost(8, [(0.5, 2)], steps=12)
    5.0
    """
    spent = before = 0
    for to_step, keep in pauses_of(rungs, steps):
        spent += count * (to_step - before)
        count, before = min(count, keep), to_step
    return (spent + count * (steps - before)) / max(1, steps)


def advanced(trials: Sequence[Trial], to_step: int | None) -> list[Trial]:
    """The same trials, asked to go on to another step."""
    return [replace(trial, to_step=to_step) for trial in trials]


def together(trials: Sequence[Trial]) -> Start:
    """Begins all trials at once."""

    def start(to_step: int | None) -> Search[list[Outcome]]:
        return list((yield advanced(trials, to_step)))

    return start


def prune(
    previews: Sequence[Outcome],
    pauses: Sequence[Pause],
    note: Note,
    order: Callable[[Sequence[Outcome]], Order] = by_potential,
) -> Search[Pruned]:
    """From the previews of the first pause to what is left after the last one."""
    kept: list[Outcome] = []
    reserve: list[Outcome] = []
    for index, (to_step, keep) in enumerate(pauses):
        eligible, spare = order(previews)
        kept = eligible[:keep]
        # Who was pruned later is known better, and has less left to render.
        reserve = [*eligible[keep:], *spare, *reserve]
        note(f"Step {to_step}: {named(kept)} of {len(previews)} previews went on.")
        if index + 1 < len(pauses):
            following = advanced([outcome.trial for outcome in kept], pauses[index + 1].to_step)
            previews = yield following
    return Pruned([each.trial for each in kept], [each.trial for each in reserve])


def with_stand_ins(
    outcomes: Sequence[Outcome], reserve: Sequence[Trial], least: int, note: Note
) -> Search[list[Outcome]]:
    """Finishes pruned trials in place of failed ones, until `least` results are usable."""
    results, waiting = list(outcomes), list(reserve)
    while waiting and (missing := least - len(ranked(results))) > 0:
        stand_ins, waiting = waiting[:missing], waiting[missing:]
        note(f"{len(stand_ins)} pruned came back, because what was kept failed.")
        results += yield advanced(stand_ins, None)
    return results


def finish_best(
    previews: Sequence[Outcome], pauses: Sequence[Pause], note: Note, least: int = 1
) -> Search[list[Outcome]]:
    """Prunes from the previews of the first pause on, and finishes what is left: of that at
    least so many, where stand-ins can help it."""
    kept, reserve = yield from prune(previews, pauses, note)
    results = yield advanced(kept, None)
    return (yield from with_stand_ins(results, reserve, least, note))


def successive_halving(
    start: Start, rungs: Sequence[Rung], steps: int, note: Note
) -> Search[list[Outcome]]:
    """Begins trials, prunes them at every rung and returns the finished ones."""
    pauses = pauses_of(rungs, steps)
    if not pauses:
        return (yield from start(None))
    previews = yield from start(pauses[0].to_step)
    closing = rungs[-1]
    least = closing[1] if closing[0] == 1 else 1
    return (yield from finish_best(previews, pauses, note, least))


def named(outcomes: Sequence[Outcome]) -> str:
    """The first few ids, for a note."""
    shown = [outcome.trial.id for outcome in outcomes[:8]]
    more = len(outcomes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
