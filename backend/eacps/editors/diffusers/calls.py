"""One pipeline call: its generators and callbacks, and its images and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from eacps.domain import Failure
from eacps.editors.diffusers.noise import step_generator
from eacps.editors.diffusers.segments import Segment
from eacps.editors.diffusers.states import State
from eacps.editors.diffusers.window import Window
from eacps.editors.protocol import Tick

EncodeCache = list[tuple[torch.Tensor, Any]]


class PassCounter:
    """Counts the rows that the denoiser gets, because pipelines stack guidance rows differently."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count one forward pass; torch calls this as a forward pre-hook."""
        batch = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        assert batch is not None, "a denoiser is called with hidden_states or sample"
        self.rows += int(batch.shape[0])


class Generators:
    """One generator per segment, for samplers that add noise at every step."""

    def __init__(self, segments: Sequence[Segment], shape: Sequence[int]) -> None:
        self.all = [step_generator(segment.trial.noise, shape) for segment in segments]
        self._unused = [generator.get_state() for generator in self.all]
        for generator, segment in zip(self.all, segments, strict=True):
            if segment.state and segment.state.generator is not None:
                generator.set_state(segment.state.generator)

    def states(self) -> list[torch.Tensor | None]:
        """The states of the generators; None for one that the sampler has not used."""
        now = [generator.get_state() for generator in self.all]
        return [
            None if torch.equal(state, unused) else state
            for state, unused in zip(now, self._unused, strict=True)
        ]


class BatchOutput:
    """The images of one batch, which of them are invalid, and the states of paused ones."""

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
        """Why this image is unusable, or None."""
        if not self._finite[row] or not bool(torch.isfinite(self.images[row]).all()):
            return Failure(
                "editor_nan",
                "The editor produced NaN or infinite pixels. Set "
                "EACPS_EDITOR_DTYPE to bfloat16 or float32, or lower EACPS_GUIDANCE.",
            )
        if self._flagged[row]:
            return Failure(
                "editor_flagged",
                "The pipeline's safety checker withheld this image. Change the instruction "
                "or the image.",
            )
        return None

    def picture(self, row: int) -> Image.Image:
        """One image of the batch."""
        values = (self.images[row].clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(values.permute(1, 2, 0).numpy(), "RGB")


class StepCallback:
    """Calls `tick` after every denoising step, and keeps the latents to check them for NaN."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._latents: torch.Tensor | None = None

    def __call__(
        self, _pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """Handle the end of a step; diffusers calls this as `callback_on_step_end`."""
        self._latents = tensors.get("latents")
        self._tick()
        return {}

    def finite(self) -> list[bool]:
        """Whether each row of the last latents is finite. Decoding clamps infinity to white."""
        assert self._latents is not None
        found: list[bool] = torch.isfinite(self._latents).flatten(1).all(1).tolist()
        return found


def batch_states(
    partial_schedule: Window | None, stop: int | None, generators: Generators
) -> list[State]:
    """One state per image if the batch pauses; an empty list if it is finished."""
    if partial_schedule is None or stop is None:
        return []
    latents = partial_schedule.latents.detach().to("cpu", torch.float32)
    return [
        State(stop, row, generator)
        for row, generator in zip(latents, generators.states(), strict=True)
    ]


@contextmanager
def cached_vae_encode(vae: Any, cache: EncodeCache) -> Iterator[None]:
    """Cache the results of `vae.encode` by input.

    Most pipelines do not accept an encoded image, and would encode the source for every batch.
    """
    encode: Callable[..., Any] = vae.encode

    def encode_cached(pixels: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        for known, result in cache:
            if known.shape == pixels.shape and torch.equal(known, pixels):
                return result
        cache.append((pixels, encode(pixels, *args, **kwargs)))
        return cache[-1][1]

    vae.encode = encode_cached
    try:
        yield
    finally:
        del vae.encode


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device or the machine ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )
