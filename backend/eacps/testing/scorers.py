"""Checks a scorer."""

from __future__ import annotations

from collections.abc import Sequence

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.scoring.protocol import Comparing, Explaining, Images, Scores
from eacps.scoring.registry import SCORERS, open_scorer, ranges_of
from eacps.settings import Settings, load_settings
from eacps.testing.contract import edits, require
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
    check_judge(ranges, scorer.score, tolerance=tolerance, repeats=True)
    if isinstance(scorer, Explaining):
        check_judge(ranges, _explained(scorer), tolerance=tolerance, repeats=True)
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
