"""What the verifiers' scorer relies on in a verifier."""

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
    """Let a verifier judge edits of every kind of task.

    `name` is what EACPS_VERIFIER may say: a name, a class, or a folder of weights. A judge that
    does not answer alike twice, such as a sampling language model, needs `repeats=False`.
    """
    settings = settings or load_settings()
    found = find_verifier(name)
    verifier = found.load(settings, "cpu")

    def judge(
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> list[Mapping[str, float]]:
        answers = verifier.judge(task, images, edited, progress)
        require(all(isinstance(each.why, str) for each in answers), "a reason is not a text")
        return [each.values for each in answers]

    check_judge(found.plugin.ranges, judge, tolerance=tolerance, repeats=repeats)
    if isinstance(verifier, Comparing):
        _compares(verifier)


def _compares(verifier: Comparing) -> None:
    untouched, edited = edits()[:2]
    for task, images in edit_tasks():
        answer = verifier.compare(task, images, untouched, edited)
        good = isinstance(answer, Preference) and 0 <= answer.first <= 1
        require(good, f"`compare` answered {answer!r} instead of a Preference from 0 to 1")
