"""What a verifier is: a judge that sees source, edit and instruction, and answers questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange


@dataclass(frozen=True)
class Answers:
    """What a verifier says of one edit: values by question, and one sentence why."""

    values: Mapping[str, float]
    why: str = ""


@dataclass(frozen=True)
class Preference:
    """Which of two edits is better: 1 the first, 0 the second, 0.5 neither."""

    first: float
    why: str = ""


class Verifier(Protocol):
    """Answers questions about edits of one task.

    Its class says which: `ranges` maps each question to its range. Three questions are known
    everywhere, and any of them may be missing: `satisfied` (was the instruction carried out),
    `preserved` (was the rest left alone) and `intact` (is the picture whole), each from 0 to 1.
    It is loaded by `load(context)` where it has one, else called with its options, or with nothing.
    """

    ranges: Mapping[str, MetricRange]

    def judge(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Answers]:
        """One entry per edited image, in order; a question without an answer is left out.

        `progress` is the share of the denoising steps that each image has behind it: 1 for a
        finished one, less for a preview.
        """


@runtime_checkable
class Comparing(Protocol):
    """A verifier that can also put two edits side by side."""

    def compare(
        self, task: EditTask, images: TaskImages, first: Image.Image, second: Image.Image
    ) -> Preference:
        """Which of two finished edits is better."""


class VerifierClass(Protocol):
    """What the registry holds. A class may also have `Options` and `load(context)`."""

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The questions that it answers, with their ranges."""

    def __call__(self, *arguments: Any) -> Verifier:
        """A verifier, where the class has no `load`."""
