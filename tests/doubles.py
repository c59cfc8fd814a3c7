"""Small editors and scorers that need no weights; also the shortest examples of their protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from eacps.domain import EditTask, Trial
from eacps.editors import Render, States, Tick, no_tick
from eacps.images import TaskImages
from eacps.metric_range import MetricRange

Act = Callable[[Trial], Render]


class Painter:
    """An editor that fills the picture with a grey that follows from the trial's seed."""

    name = "painter"

    def __init__(self, act: Act | None = None, size: tuple[int, int] = (32, 32)) -> None:
        self.opened = 0
        self._size = size
        self._act = act or self.paint

    def open(self, task: EditTask, images: TaskImages) -> Painter:
        self.opened += 1
        return self

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> list[Render]:
        tick()
        return [self._act(trial) for trial in trials]

    def paint(self, trial: Trial) -> Render:
        grey = trial.noise.seed % 256
        return Render(trial, nfe=3, image=Image.new("RGB", self._size, (grey, grey, grey)))


@dataclass
class SlowPainter:
    """An editor whose picture gets its grey step by step; a state is the step it stands at."""

    steps: int = 10
    size: tuple[int, int] = (16, 16)
    name: str = "slow painter"
    opened: int = 0
    calls: list[tuple[str, int, int]] = field(default_factory=list)

    def open(self, task: EditTask, images: TaskImages) -> SlowPainter:
        self.opened += 1
        return self

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> list[Render]:
        renders = [self._painted(trial, (states or {}).get(trial.id)) for trial in trials]
        for _ in range(max((render.nfe for render in renders), default=0)):
            tick()
        return renders

    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        start = int(state) if state else 0
        end = self.steps if trial.to_step is None else trial.to_step
        self.calls.append((trial.id, start, end))
        shade = round((trial.noise.seed % 200) * end / self.steps)
        image = Image.new("RGB", self.size, (shade, shade, shade))
        paused = None if trial.to_step is None else str(end).encode()
        return Render(trial, nfe=end - start, image=image, state=paused)


class Retoucher:
    """An editor that brightens what it starts from by as much as the trial's seed says."""

    name = "retoucher"

    def __init__(self) -> None:
        self.started_from: list[Image.Image] = []

    def open(self, task: EditTask, images: TaskImages) -> Retoucher:
        self.started_from.append(images.source)
        return self

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> list[Render]:
        tick()
        return [Render(trial, nfe=3, image=self._brighter(trial)) for trial in trials]

    def _brighter(self, trial: Trial) -> Image.Image:
        pixels = np.asarray(self.started_from[-1], np.int16) + trial.noise.seed % 4
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Brightness:
    """A scorer: brighter follows the prompt better. It also tells how alike images are."""

    ranges: Mapping[str, MetricRange] = {"pf": MetricRange(worst=0, best=0.5)}

    def score(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> list[dict[str, float]]:
        return [{"pf": brightness(image)} for image in edited]

    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        shades = [brightness(image) for image in images]
        return [[1 - abs(one - other) for other in shades] for one in shades]


class BrokenScorer:
    """A scorer that is down."""

    ranges: Mapping[str, MetricRange] = {"cons": MetricRange(worst=0.5, best=1)}

    def score(self, *_: object) -> list[Mapping[str, float]]:
        raise RuntimeError("the judge is asleep")


def brightness(image: Image.Image) -> float:
    """The mean of all pixels, from 0 to 1."""
    return float(np.asarray(image).mean() / 255)
