"""An editor: lays a colour over the picture. Needs no weights and no GPU."""

import random

from PIL import Image

from eacps import Failure, Render


class Tint:
    """Every noise stands for a colour."""

    name = "tint"

    def open(self, task, images):
        return TintSession(images.source)


class TintSession:
    """One task."""

    def __init__(self, source):
        self._source = source

    def advance(self, trials, tick=lambda: None, states=None):
        return [self._render(trial, tick) for trial in trials]

    def _render(self, trial, tick):
        tick()  # ends the batch where the task was cancelled
        if trial.to_step is not None:
            failure = Failure("cannot_pause", "The editor tint has no steps to pause between.")
            return Render(trial, nfe=0, failure=failure)
        chance = random.Random(repr(trial.noise))
        colour = tuple(chance.randrange(256) for _ in range(3))
        overlay = Image.new("RGB", self._source.size, colour)
        return Render(trial, nfe=1, image=Image.blend(self._source, overlay, 0.4))
