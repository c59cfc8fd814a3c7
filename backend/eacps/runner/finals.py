"""Finals: the best candidates whose potentials are nearly equal meet in pairs, which orders them.

A judge's scores of the best often tie, where the same judge can still say which of two is better.
The finalists are asked for as one more batch, of trials that are stored already: nothing is
rendered, and after a crash their outcome is found like that of any other batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from eacps.domain import Candidate, SearchResult, Trial
from eacps.search.comparing import PREFERENCE

NEAR: Final = 0.1
"""Potentials that differ by no more than this share of the potential's range nearly tie."""
RunBatches = Callable[[Sequence[Sequence[Trial]]], Sequence[Candidate]]


def finals(result: SearchResult, run_batches: RunBatches) -> SearchResult:
    """The result with its nearly equal best candidates in the order of their strength."""
    last = finalists(result)
    if len(last) < 2:
        return result
    asked = [replace(one.trial, stage="final", state=None) for one in last]
    answered = run_batches([asked])
    strengths = [_strength(one) for one in answered]
    known = [each for each in strengths if each is not None]
    if len(known) < len(last):
        reason = next((note for one in answered for note in one.notes), "no judge compared them")
        note = f"The best {len(last)} candidates nearly tie, and stay in this order: {reason}"
        return replace(result, decisions=(*result.decisions, note))
    order = sorted(range(len(last)), key=lambda place: (-known[place], place))
    fresh = [_told(last[place], answered[place]) for place in order]
    names = ", ".join(one.id for one in fresh)
    note = f"The best {len(last)} candidates nearly tied, and were compared in pairs: {names}."
    others = result.candidates[len(last) :]
    return replace(result, candidates=(*fresh, *others), decisions=(*result.decisions, note))


def finalists(result: SearchResult) -> list[Candidate]:
    """The candidates that meet: the best ones, as far as they nearly tie with the very best."""
    low, high = result.potential_range
    most = result.task.plan.finals if result.task.route != "face_swap" else 0
    near = NEAR * max(0.0, high - low)
    best = result.best.potential or 0.0
    return [
        one
        for one in result.usable[:most]
        if one.potential is not None and best - one.potential <= near
    ]


def _strength(candidate: Candidate) -> float | None:
    found = (each.value for each in candidate.metrics if each.name == PREFERENCE)
    return next(found, None)


def _told(candidate: Candidate, answered: Candidate) -> Candidate:
    """The candidate with its strength, and why it is preferred."""
    strength = [each for each in answered.metrics if each.name == PREFERENCE]
    why = " ".join(part for part in (candidate.why, answered.why) if part)
    return replace(candidate, metrics=(*candidate.metrics, *strength), why=why)
