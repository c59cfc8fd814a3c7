"""A scorer: how much fine detail an edit has, compared with its source."""

import numpy as np
from pydantic import BaseModel, Field

from eacps import MetricRange


class Options(BaseModel):
    """What EACPS_PLUGIN_OPTIONS may say."""

    side: int = Field(256, ge=16, le=4096, description="images are measured at this size")


class Sharpness:
    """`sharpness`: the edit's detail as a share of the source's."""

    ranges = {"sharpness": MetricRange(worst=0, best=2)}
    Options = Options

    def __init__(self, options):
        self._side = options.side

    def score(self, task, images, edited, progress):
        before = self._detail(images.source)
        return [{"sharpness": self._detail(image) / before} for image in edited]

    def _detail(self, image):
        small = image.convert("L")
        small.thumbnail((self._side, self._side))
        grey = np.asarray(small, dtype=float)
        steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
        return max(float(sum(steps)), 1e-3)
