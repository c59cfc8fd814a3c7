"""Technical faults that an edit has and its source does not, without any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.scoring import masks
from eacps.scoring.protocol import Images, Scores

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Grey = NDArray[numpy.floating[Any]]
    Inside = NDArray[numpy.bool_]
BLOCK = 8
"""The side of JPEG's blocks, at whose edges strong compression shows."""
TINY = 1e-6


class TechnicalScorer:
    """Four faults, each 0 for an edit that is no worse than its source:

    - `blur`: the share of the fine detail that was lost;
    - `clipping`: the share of pixels that have become pure black or pure white;
    - `blocking`: how much stronger steps at the edges of 8 x 8 blocks are than elsewhere;
    - `seam`: with a mask, how much stronger steps across its edge are than in the source.
    """

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        "blur": MetricRange(worst=1, best=0),
        "clipping": MetricRange(worst=0.2, best=0),
        "blocking": MetricRange(worst=1, best=0),
        "seam": MetricRange(worst=0.2, best=0),
    }

    @staticmethod
    def needs_device(_task: EditTask) -> bool:
        """It computes on the processor alone."""
        return False

    def score(
        self, _task: EditTask, images: TaskImages, edited: Images, _progress: Sequence[float] = ()
    ) -> Sequence[Scores]:
        """One mapping per edited image; `seam` only with a mask."""
        import numpy as np

        before = np.asarray(images.source.convert("L"), dtype=np.float32) / 255
        mask = masks.dividing_mask(images)
        edge = None if mask is None else np.asarray(mask, dtype=bool)
        rows = []
        for image in edited:
            whole = masks.at_source_size(images, image).convert("L")
            after = np.asarray(whole, dtype=np.float32) / 255
            row = {
                "blur": max(0.0, 1 - _detail(after) / max(_detail(before), TINY)),
                "clipping": max(0.0, _clipped(after) - _clipped(before)),
                "blocking": max(0.0, _blocking(after) - _blocking(before)),
            }
            if edge is not None:
                row["seam"] = max(0.0, _steps_across(after, edge) - _steps_across(before, edge))
            rows.append(row)
        return rows


def _detail(grey: Grey) -> float:
    """The mean strength of the second derivative."""
    import numpy as np

    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(4 * inner - around).mean()) if inner.size else 0.0


def _clipped(grey: Grey) -> float:
    return float(((grey <= 0) | (grey >= 1)).mean())


def _blocking(grey: Grey) -> float:
    """How much stronger steps at the edges of blocks are than the others: 0 if they are not."""
    import numpy as np

    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        at_edges = np.arange(1, len(steps) + 1) % BLOCK == 0
        if at_edges.any() and not at_edges.all():
            ratios.append(float(steps[at_edges].mean()) / max(float(steps[~at_edges].mean()), TINY))
    return min(1.0, max(0.0, sum(ratios) / len(ratios) - 1)) if ratios else 0.0


def _steps_across(grey: Grey, inside: Inside) -> float:
    """The mean step between neighbours of which one is inside the mask."""
    import numpy as np

    steps = []
    for axis in (0, 1):
        crossing = np.diff(inside.astype(np.int8), axis=axis) != 0
        steps.append(np.abs(np.diff(grey, axis=axis))[crossing])
    every = np.concatenate(steps)
    return float(every.mean()) if every.size else 0.0
