"""Checks a scorer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.scoring.protocol import Comparing, Explaining, Images, Scores
from eacps.scoring.registry import SCORERS, open_scorer, ranges_of
from eacps.settings import Settings, load_settings
from eacps.testing.contract import edit_tasks, edits, require
from eacps.testing.judges import Judge, check_judge

TOLERANCE = 1e-3


def check_scorer(
    name: str, settings: Settings | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Score edits of every kind of task, in a batch and one by one.

    >>> check_scorer("region")
    """
    settings = settings or load_settings()
    scorer = open_scorer(name, settings, "cpu")
    ranges = ranges_of(SCORERS.get(name), settings)
    score = scorer.score
    check_judge(ranges, score, tolerance=tolerance, repeats=True)
    if isinstance(scorer, Explaining):
        explained = _explained(scorer)
        check_judge(ranges, explained, tolerance=tolerance, repeats=True)
        _explains_its_scores(score, explained, tolerance)
    if isinstance(scorer, Comparing):
        _compares(scorer)


def _explained(scorer: Explaining) -> Judge:
    def judge(
        task: EditTask, images: TaskImages, edited: Images, progress: Sequence[float]
    ) -> list[Scores]:
        rows = scorer.explained(task, images, edited, progress)
        require(all(isinstance(why, str) for _, why in rows), "a reason is not a string")
        return [scores for scores, _ in rows]

    return judge


def _explains_its_scores(score: Judge, explained: Judge, tolerance: float) -> None:
    """A search calls only `explained`, so the metrics there must be the scorer's own."""
    made = edits()
    progress = [1.0] * len(made)
    for task, images in edit_tasks():
        rows = zip(
            score(task, images, made, progress),
            explained(task, images, made, progress),
            strict=True,
        )
        for row, told in rows:
            same = row.keys() == told.keys() and all(
                math.isclose(value, told[name], rel_tol=tolerance, abs_tol=tolerance)
                for name, value in row.items()
            )
            words = f"`explained` gives other metrics than `score`: {dict(told)}, not {dict(row)}"
            require(same, words)


def _compares(scorer: Comparing) -> None:
    same_size = edits()[:3]
    rows: Sequence[Sequence[float]] = scorer.likeness(same_size)
    sides = {len(row) for row in (*rows, rows)}
    require(sides == {len(same_size)}, "`likeness` is not a square matrix with one row per image")
    for index, row in enumerate(rows):
        require(abs(row[index] - 1) < TOLERANCE, "the likeness of an image to itself is not 1")
        for other, value in enumerate(row):
            symmetric = abs(value - rows[other][index]) < TOLERANCE
            require(symmetric, "`likeness` is not symmetric")
