"""The metrics of swapped faces and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from eacps.metric_range import MetricRange

IDENTITY: Final = "identity"
IDENTITY_BEFORE: Final = "identity_before"

SWAP_RANGES: Final[Mapping[str, MetricRange]] = {
    IDENTITY: MetricRange(worst=0.0, best=0.8),
    IDENTITY_BEFORE: MetricRange(worst=0.0, best=0.8),
    "landmarks": MetricRange(worst=0.3, best=0.0),
    "sharpness": MetricRange(worst=0.3, best=1.0),
    "outside": MetricRange(worst=2.0, best=0.0),
}
"""`identity`, `identity_before`: cosine similarity of the character's face and the face in the
image, after and before the swap; `landmarks`: mean movement of eyes, nose and mouth relative to the
distance between the eyes; `sharpness`: fine detail relative to the original face, at most 1;
`outside`: mean change of all pixels outside swapped faces, in levels of 255."""
