"""The interface of a scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.preparing import Kept, Prepared

Images = Sequence[Image.Image]
Scores = Mapping[str, float]
CAPTION: Final = "caption"
"""The similarity of an edit to a caption of the wished-for picture."""


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
class Reasoning(Protocol):
    """A scorer that also gives the reason of each score by itself, where there is one."""

    def reasoned(
        self, task: EditTask, images: TaskImages, edited: Images, progress: Sequence[float]
    ) -> Sequence[tuple[Scores, str, Mapping[str, str]]]:
        """Like `explained`, with the reasons by the names of the scores."""


@runtime_checkable
class Preparing(Protocol):
    """A scorer that finds out something about a task once, before it scores any edit of it."""

    @property
    def captions(self) -> bool:
        """Whether it says what the wished-for picture shows."""

    def prepare(self, task: EditTask, images: TaskImages, kept: Kept) -> Prepared:
        """Prepare a task, or recall how it was prepared; called before each scoring."""


@runtime_checkable
class Matching(Protocol):
    """A scorer that can tell how well images match a caption that becomes known only later."""

    def matching(self, images: Images) -> Callable[[str], Sequence[float]]:
        """Look at the images now, on the device; the caption needs hardly any of it."""


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
      the mask is restored;
    - `needs_device(task)`, false if it computes on the processor alone: where servers judge, the
      device then renders on sooner.
    """

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The metrics that it measures, with their ranges."""

    def __call__(self, *arguments: Any) -> Scorer:
        """Make a scorer; used if the class has no `load`."""
