"""Checks a verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.settings import Settings, load_settings
from eacps.testing.contract import edit_tasks, edits, require
from eacps.testing.judges import check_judge
from eacps.verifiers.protocol import Comparing, Preference
from eacps.verifiers.registry import find_verifier

TOLERANCE = 1e-3


def check_verifier(
    name: str,
    settings: Settings | None = None,
    *,
    repeats: bool = True,
    tolerance: float = TOLERANCE,
) -> None:
    """Judge edits of every kind of task.

    `name` is a value of EACPS_VERIFIER: a name, a class, or a folder of weights. Set
    `repeats=False` for a verifier that is not deterministic, such as a sampling language model.
    """
    settings = settings or load_settings()
    found = find_verifier(name, settings)
    verifier = found.load(settings, "cpu")

    def judge(
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> list[Mapping[str, float]]:
        answers = verifier.judge(task, images, edited, progress)
        require(all(isinstance(each.why, str) for each in answers), "a reason is not a string")
        return [each.values for each in answers]

    check_judge(found.plugin.ranges, judge, tolerance=tolerance, repeats=repeats)
    if isinstance(verifier, Comparing):
        _compares(verifier)


def _compares(verifier: Comparing) -> None:
    untouched, edited = edits()[:2]
    for task, images in edit_tasks():
        answer = verifier.compare(task, images, untouched, edited)
        good = isinstance(answer, Preference) and 0 <= answer.first <= 1
        require(good, f"`compare` returned {answer!r} instead of a Preference between 0 and 1")
