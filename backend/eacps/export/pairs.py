"""Preference pairs from reviews: of two candidates, which one a person prefers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

from eacps.labelstudio import label_config
from eacps.labelstudio.reviews import UNKNOWN

ACCEPT, ANOTHER, NONE = label_config.VERDICTS
Reason = Literal["best", "rejected", "reordered", "unchanged"]


@dataclass(frozen=True)
class Pair:
    """Two finished candidates of a review, and why the chosen one is preferred."""

    review: Mapping[str, Any]
    chosen: str
    rejected: str
    reason: Reason

    def record(self, name: str) -> Mapping[str, Any]:
        """What is known of one of the two candidates."""
        found: Mapping[str, Any] = self.review["candidates"][name]
        return found

    @property
    def prompt(self) -> str:
        """What both were asked for."""
        return self.record(self.chosen).get("instruction") or self.review["prompt"] or ""


CONTRADICTS: Final = "The verdict"
"""How the problem begins that a verdict does not fit the ranking."""


def usable(review: Mapping[str, Any]) -> bool:
    """Whether pairs can be made from a review: its pictures are known, and it does not contradict
    itself."""
    problems = review["problems"]
    contradicts = any(one.startswith(CONTRADICTS) for one in problems)
    return review["candidates"] is not None and UNKNOWN not in problems and not contradicts


def pairs(review: Mapping[str, Any], *, unchanged: bool = False) -> Iterator[Pair]:
    """The pairs of a review.

    Rankings are pre-filled by the search, so the order of two candidates says something about the
    person only if the person made it: the best against every other one (if there is a verdict),
    what is acceptable against what was rejected, and candidates whose order was changed.
    `unchanged` adds the pairs that stand as the search ranked them.
    """
    if not usable(review):
        return
    ranked = [name for name in review["ranked"] if _is_finished(review, name)]
    rejected = [name for name in review["rejected"] if _is_finished(review, name)]
    for better, worse in combinations(dict.fromkeys(ranked), 2):
        reason = _reason(review, better, worse, is_best=better == review["ranked"][0])
        if (unchanged or reason != "unchanged") and _is_same_request(review, better, worse):
            yield Pair(review, better, worse, reason)
    for better in dict.fromkeys(ranked):
        for worse in dict.fromkeys(rejected):
            if better != worse and _is_same_request(review, better, worse):
                yield Pair(review, better, worse, "rejected")


def _reason(review: Mapping[str, Any], better: str, worse: str, *, is_best: bool) -> Reason:
    places = [_place(review, name) for name in (better, worse)]
    if None not in places and places[0] > places[1]:  # type: ignore[operator]
        return "reordered"
    if is_best and review["verdict"] in (ACCEPT, ANOTHER):
        return "best"
    return "unchanged"


def _place(review: Mapping[str, Any], name: str) -> float | None:
    """A candidate's place in its own search; only places in the same search can be compared."""
    record = review["candidates"][name]
    rank = record.get("rank")
    searches = {each.get("search") for each in review["candidates"].values()}
    return rank if isinstance(rank, int) and len(searches) == 1 else None


def _is_same_request(review: Mapping[str, Any], one: str, other: str) -> bool:
    """Whether two candidates were asked for with the same instruction and mask: else the person may
    have preferred the request."""
    both = [review["candidates"][name] for name in (one, other)]
    return all(len({each.get(part) for each in both}) == 1 for part in ("instruction", "mask"))


def _is_finished(review: Mapping[str, Any], name: str) -> bool:
    record = review["candidates"].get(name)
    return isinstance(record, dict) and record.get("state", "finished") == "finished"
