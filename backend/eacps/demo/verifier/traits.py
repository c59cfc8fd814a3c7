"""The verifier for the demo's bears, a small network that reads traits from both pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from eacps.demo.verifier.loading import loaded_verifier
from eacps.demo_defaults import named, share_known
from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.verifiers.protocol import Answers

if TYPE_CHECKING:
    from eacps.demo.verifier.loading import LoadedVerifier

QUESTIONS = ("satisfied", "preserved", "intact")


class TraitVerifier:
    """Loads a folder of format `eacps-verifier-1`; answers with probabilities. What it does not
    understand of an instruction counts as not carried out, and only then it gives a reason."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        name: MetricRange(worst=0, best=1) for name in QUESTIONS
    }

    def __init__(self, network: LoadedVerifier) -> None:
        self._network = network

    @classmethod
    def load(cls, context: Context) -> TraitVerifier:
        """Load the folder."""
        return cls(loaded_verifier(context.location, context.device))

    def judge(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Answers]:
        """Judge all images in one forward pass."""
        if not edited:
            return []
        rows = self._network.probabilities(images.source, edited, task.instruction, progress)
        known = share_known(task.instruction)
        why = "".join(f"It does not know {words}." for words in named(task.instruction))
        return [
            Answers({"satisfied": known * satisfied, "preserved": preserved, "intact": intact}, why)
            for satisfied, preserved, intact in rows
        ]
