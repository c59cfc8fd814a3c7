"""Checks that scorers and verifiers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.testing.contract import edit_tasks, edits, require

Values = Mapping[str, float]
Judge = Callable[[EditTask, TaskImages, Sequence[Image.Image], Sequence[float]], Sequence[Values]]


def check_judge(
    ranges: Mapping[str, MetricRange], judge: Judge, *, tolerance: float, repeats: bool
) -> None:
    """Judge edits of every kind of task."""
    _declares(ranges)
    for task, images in edit_tasks():
        require(
            list(judge(task, images, [], [])) == [],
            "without images, the result is not an empty list",
        )
        _judges_in_order(ranges, judge, task, images, tolerance, repeats)


def _declares(ranges: Mapping[str, MetricRange]) -> None:
    require(bool(ranges), "its `ranges` are empty")
    for name, span in ranges.items():
        good = isinstance(span, MetricRange) and span.worst != span.best
        require(good, f"the range of {name!r} is not a MetricRange with different ends: {span!r}")


def _judges_in_order(
    ranges: Mapping[str, MetricRange],
    judge: Judge,
    task: EditTask,
    images: TaskImages,
    tolerance: float,
    repeats: bool,
) -> None:
    edited, progress = edits(), [0.3, 1.0, 1.0, 1.0]
    before = [image.tobytes() for image in (images.source, *edited)]
    rows = judge(task, images, edited, progress)
    after = [image.tobytes() for image in (images.source, *edited)]
    require(before == after, "it changes its input images")
    require(len(rows) == len(edited), f"{len(edited)} images gave {len(rows)} answers")
    for row in rows:
        _is_declared(ranges, row)
    if repeats:
        _repeats(judge, task, images, rows, tolerance)


def _is_declared(ranges: Mapping[str, MetricRange], row: Values) -> None:
    for name, value in row.items():
        require(name in ranges, f"it returns {name!r}, which is not in its `ranges`")
        number = isinstance(value, int | float) and math.isfinite(value)
        require(number, f"its {name!r} is not a finite number: {value!r}; leave out unknown values")


def _repeats(
    judge: Judge, task: EditTask, images: TaskImages, rows: Sequence[Values], tolerance: float
) -> None:
    for image, share, row in zip(edits(), [0.3, 1.0, 1.0, 1.0], rows, strict=True):
        (alone,) = judge(task, images, [image], [share])
        require(
            alone.keys() == row.keys(),
            "it returns other metrics for an image alone than in a batch",
        )
        for name, value in row.items():
            near = math.isclose(value, alone[name], rel_tol=tolerance, abs_tol=tolerance)
            words = f"its {name!r} of an image is {value:g} in a batch, but {alone[name]:g} alone"
            require(near, words)
