"""What is measured of a swapped face, and which values are good."""

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
"""`identity`: cosine between the character's face and the face in the image, before and after;
`landmarks`: how far eyes, nose and mouth moved, in distances between the eyes; `sharpness`: fine
detail of the face compared with the face that was there, at most 1; `outside`: mean change, in
levels of 255, of all pixels that belong to no swapped face."""
