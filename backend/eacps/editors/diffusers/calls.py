"""What goes into one call of a pipeline, what is seen of it, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from eacps.domain import Failure
from eacps.editors.diffusers.legs import Leg
from eacps.editors.diffusers.noise import step_generator
from eacps.editors.diffusers.states import State
from eacps.editors.diffusers.window import Window
from eacps.editors.protocol import Tick

Memory = list[tuple[torch.Tensor, Any]]


class PassCounter:
    """Counts the images that go through the denoiser, whatever the pipeline stacks together."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook."""
        batch = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        assert batch is not None, "a denoiser is called with hidden_states or sample"
        self.rows += int(batch.shape[0])


class Generators:
    """A generator per leg, for samplers that add noise at every step."""

    def __init__(self, legs: Sequence[Leg], shape: Sequence[int]) -> None:
        self.all = [step_generator(leg.trial.noise, shape) for leg in legs]
        self._unused = [generator.get_state() for generator in self.all]
        for generator, leg in zip(self.all, legs, strict=True):
            if leg.state and leg.state.generator is not None:
                generator.set_state(leg.state.generator)

    def states(self) -> list[torch.Tensor | None]:
        """Where those generators stand that the sampler has drawn from."""
        now = [generator.get_state() for generator in self.all]
        return [
            None if torch.equal(state, unused) else state
            for state, unused in zip(now, self._unused, strict=True)
        ]


class Pixels:
    """The images of one batch, what is wrong with some of them, and the states of paused ones."""

    def __init__(
        self,
        images: torch.Tensor,
        finite: Sequence[bool],
        flagged: Sequence[bool],
        states: Sequence[State],
    ) -> None:
        self.images = images
        self.states = states
        self._finite = finite
        self._flagged = flagged

    def failure(self, row: int) -> Failure | None:
        """Why this image cannot be used, if so."""
        if not self._finite[row] or not bool(torch.isfinite(self.images[row]).all()):
            return Failure(
                "editor_nan",
                "The editor made numbers that are no colours (NaN or infinite). Set "
                "EACPS_EDITOR_DTYPE to bfloat16 or float32, or lower EACPS_GUIDANCE.",
            )
        if self._flagged[row]:
            return Failure(
                "editor_flagged",
                "The pipeline's own safety checker withheld this image. Change the instruction "
                "or the image.",
            )
        return None

    def picture(self, row: int) -> Image.Image:
        """One image of the batch."""
        values = (self.images[row].clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(values.permute(1, 2, 0).numpy(), "RGB")


class StepWatch:
    """Hears of every denoising step: passes it on, and keeps the latents to look for NaN."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._latents: torch.Tensor | None = None

    def __call__(
        self, _pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """diffusers' callback at a step's end."""
        self._latents = tensors.get("latents")
        self._tick()
        return {}

    def finite(self) -> list[bool]:
        """Which images' last latents are all numbers. Decoding clamps infinity to white, so it
        must be seen here."""
        assert self._latents is not None
        found: list[bool] = torch.isfinite(self._latents).flatten(1).all(1).tolist()
        return found


def states_of(cut: Window | None, stop: int | None, generators: Generators) -> list[State]:
    """One state per image where a batch pauses; none at the end."""
    if cut is None or stop is None:
        return []
    latents = cut.latents.detach().to("cpu", torch.float32)
    return [
        State(stop, row, generator)
        for row, generator in zip(latents, generators.states(), strict=True)
    ]


@contextmanager
def encoded_once(vae: Any, memory: Memory) -> Iterator[None]:
    """While open, `vae.encode` remembers what it made of each input. Most pipelines take no
    encoded image, and would encode the source again for every batch."""
    encode: Callable[..., Any] = vae.encode

    def remembered(pixels: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        for known, result in memory:
            if known.shape == pixels.shape and torch.equal(known, pixels):
                return result
        memory.append((pixels, encode(pixels, *args, **kwargs)))
        return memory[-1][1]

    vae.encode = remembered
    try:
        yield
    finally:
        del vae.encode


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )
