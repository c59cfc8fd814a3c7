"""The interface of a verifier, which sees source, edit and instruction, and answers questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.preparing import Kept, Prepared


@dataclass(frozen=True)
class Answers:
    """A verifier's answers about one edit: a value for each question, and the reasons in words.

    `reasons` has the reason of each answer by itself, where there is one: what is wrong with the
    edit, in words that can help to make a better one.
    """

    values: Mapping[str, float]
    why: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preference:
    """Which of two edits is better: `first` is 1 for the first, 0 for the second, 0.5 for a tie."""

    first: float
    why: str = ""


class Verifier(Protocol):
    """Answers questions about the edits of a task.

    The attribute `ranges`, which the class has too, maps each question to its range. Searches know
    three questions, each from 0 to 1, any of which may be missing: `satisfied` (was the instruction
    carried out), `preserved` (is the rest unchanged) and `intact` (is the image undamaged). A
    verifier is made by `load(context)` if its class has that, else by calling the class with its
    options, or without arguments.
    """

    ranges: Mapping[str, MetricRange]

    def judge(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Answers]:
        """Return the answers about each edited image, in order; leave out unanswered questions.

        `progress` is the share of the denoising steps that each image has completed: 1 for a
        finished one, less for a preview.
        """


@runtime_checkable
class Preparing(Protocol):
    """A verifier that finds out something about a task before it judges any edit of it."""

    captions: bool
    """Whether it says what the wished-for picture shows."""

    def prepare(self, task: EditTask, images: TaskImages, kept: Kept) -> Prepared:
        """Prepare a task, or recall from `kept` how it was prepared; called before each `judge`.
        What cannot be prepared is no error: it is missing, and `judge` says why."""


@runtime_checkable
class Comparing(Protocol):
    """A verifier that can also compare two edits."""

    def compare(
        self, task: EditTask, images: TaskImages, first: Image.Image, second: Image.Image
    ) -> Preference:
        """Say which of two finished edits is better."""


class VerifierClass(Protocol):
    """A verifier class, as the registry holds it; it may have `Options` and `load(context)`."""

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The questions that it answers, with their ranges."""

    def __call__(self, *arguments: Any) -> Verifier:
        """Make a verifier; used if the class has no `load`."""
