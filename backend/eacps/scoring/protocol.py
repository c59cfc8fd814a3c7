"""The interface of a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange

Images = Sequence[Image.Image]
Scores = Mapping[str, float]


class Scorer(Protocol):
    """Measures named metrics of the edited images of a task.

    The attribute `ranges` maps each metric to its range; the class has it too, so that metrics are
    known before anything is loaded. A scorer is made by `load(context)` if its class has that, else
    by calling the class with its options, or without arguments. `ScorerClass` lists what else a
    class may have.
    """

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The metrics that it yields, with their ranges."""

    def score(
        self, task: EditTask, images: TaskImages, edited: Images, progress: Sequence[float]
    ) -> Sequence[Scores]:
        """Return a mapping from metric names to raw values for each edited image.

        `progress` is the share of the denoising steps that each image has completed: 1 for a
        finished one, less for a preview. Leave out a metric that cannot be measured.
        """


@runtime_checkable
class Explaining(Protocol):
    """A scorer that also gives a reason: one sentence per image, which may be empty."""

    def explained(
        self, task: EditTask, images: TaskImages, edited: Images, progress: Sequence[float]
    ) -> Sequence[tuple[Scores, str]]:
        """Like `score`, with a reason for each mapping."""


@runtime_checkable
class Comparing(Protocol):
    """A scorer that can also compare images, which finds near-duplicates."""

    def likeness(self, images: Images) -> Sequence[Sequence[float]]:
        """The cosine similarities of all pairs of images."""


@runtime_checkable
class Preferring(Protocol):
    """A scorer that can say how strong images are when they meet in pairs."""

    def preferences(
        self, task: EditTask, images: TaskImages, edited: Images
    ) -> Sequence[tuple[float, str]]:
        """The strength of each finished image (higher is better), with a reason that may be empty;
        raises ScoringError if they cannot be compared."""


class ScorerClass(Protocol):
    """A scorer class, as the registry holds it. It may also have:

    - `Options`, a dataclass or pydantic model that describes its EACPS_PLUGIN_OPTIONS;
    - `load(context)`, if it needs more than its options, such as weights on a device;
    - `wanted(settings, metric_names)`, if it should also run when no weight needs its metrics;
    - `metric_ranges(settings)`, if its metrics depend on the settings;
    - `judges_as_rendered = True`, to see images as the editor made them, before the part outside
      the mask is restored.
    """

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The metrics that it measures, with their ranges."""

    def __call__(self, *arguments: Any) -> Scorer:
        """Make a scorer; used if the class has no `load`."""
