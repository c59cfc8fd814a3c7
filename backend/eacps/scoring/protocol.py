"""What the runner asks of a scorer."""

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
    """Judges edited images of one task by named metrics.

    Its class says what it measures before anything is loaded: `ranges` maps each metric to its
    range. It is loaded by `load(context)` where it has one, else called with its options, or with
    nothing. Three more things that a class may have are below.
    """

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The metrics that it yields, with their ranges."""

    def score(
        self, task: EditTask, images: TaskImages, edited: Images, progress: Sequence[float]
    ) -> Sequence[Scores]:
        """One mapping of metric name to raw value per edited image, all in one forward.

        `progress` is the share of the denoising steps that each image has behind it: 1 for a
        finished one, less for a preview. A metric that cannot be measured is left out.
        """


@runtime_checkable
class Explaining(Protocol):
    """A scorer that also says why: one sentence per image, empty where there is none."""

    def explained(
        self, task: EditTask, images: TaskImages, edited: Images, progress: Sequence[float]
    ) -> Sequence[tuple[Scores, str]]:
        """As `score`, each with its reason."""


@runtime_checkable
class Comparing(Protocol):
    """A scorer that tells how alike images are, by which near-duplicates are found."""

    def likeness(self, images: Images) -> Sequence[Sequence[float]]:
        """The cosines of all pairs of images."""


class ScorerClass(Protocol):
    """What the registry holds. A class may also have:

    - `Options`, a dataclass or pydantic model: what EACPS_PLUGIN_OPTIONS may say;
    - `load(context)`, where it needs more than its options, such as weights on a device;
    - `wanted(settings, metric_names)`, where it is not only opened when a weight asks for one of
      its metrics;
    - `metric_ranges(settings)`, where what it measures depends on the settings;
    - `judges_as_rendered = True`: it then sees images as the editor made them, before the outside
      of a mask is restored.
    """

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The metrics that it yields, with their ranges."""

    def __call__(self, *arguments: Any) -> Scorer:
        """A scorer, where the class has no `load`."""
