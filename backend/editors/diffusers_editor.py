"""Any family's pipeline as an Editor: encode once, render in batches, survive lack of memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from backend.domain import EditTask, Failure, Trial
from backend.editors import sizing
from backend.editors.family import Family, Inputs
from backend.editors.loading import call_arguments
from backend.editors.noise import materialise_all, step_generator
from backend.editors.protocol import EditSession, Render, Tick, no_tick
from backend.errors import EditorError
from backend.images import TaskImages
from backend.settings import Settings

log = logging.getLogger(__name__)

Memory = list[tuple[torch.Tensor, Any]]


class DiffusersEditor:
    """A loaded pipeline; renders one batch at a time, whichever session asks."""

    def __init__(self, family: Family, settings: Settings) -> None:
        self.family = family
        self.settings = settings
        self.passes = PassCounter()
        self.lock = threading.Lock()
        denoiser = getattr(family.pipe, family.denoiser)
        denoiser.register_forward_pre_hook(self.passes, with_kwargs=True)

    @property
    def name(self) -> str:
        """The family and the folder's or hub id's last part."""
        return f"{self.family.title} · {Path(self.settings.editor).name}"

    def open(self, task: EditTask, images: TaskImages) -> EditSession:
        """Encode a task's prompt and images."""
        with self.lock:
            return DiffusersSession(self, task, images)


class PassCounter:
    """Counts the images that go through the denoiser, whatever the pipeline stacks together."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook."""
        batch = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        assert batch is not None, "a denoiser is called with hidden_states or sample"
        self.rows += int(batch.shape[0])


class DiffusersSession:
    """One task on one pipeline."""

    def __init__(self, editor: DiffusersEditor, task: EditTask, images: TaskImages) -> None:
        self._editor = editor
        self._family = editor.family
        self._memory: Memory = []
        self._largest_batch: int | None = None
        self.inputs = self._sized(task, images)
        self._shape = tuple(self._family.noise_shape(*self.inputs.source.size))
        try:
            with torch.no_grad():
                self._encoded = self._family.encode(self.inputs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise EditorError(
                "There is not enough memory to encode the task.",
                hint="Lower EACPS_MAX_SIDE, or set EACPS_OFFLOAD.",
            ) from error

    def advance(self, trials: Sequence[Trial], tick: Tick = no_tick) -> Sequence[Render]:
        """Render trials as one batch, or in smaller ones where memory is short."""
        if any(trial.to_step is not None for trial in trials):
            raise EditorError(
                "Pausing a render before its last step is not available in this build.",
                hint="Use a strategy that renders every trial to the end.",
            )
        with self._editor.lock:
            return self._in_batches(trials, tick)

    def denoise(self, trials: Sequence[Trial], tick: Tick = no_tick) -> Pixels:
        """One call of the pipeline: the trials' images as numbers from 0 to 1."""
        family, pipe = self._family, self._family.pipe
        watch = StepWatch(tick)
        noises = [trial.noise for trial in trials]
        arguments = {
            **family.arguments(self._encoded, self.inputs, len(trials)),
            "latents": family.pack(materialise_all(noises, self._shape)),
            "generator": [step_generator(noise, self._shape) for noise in noises],
            "num_inference_steps": self._editor.settings.steps,
            "callback_on_step_end": watch,
            "output_type": "pt",
            **call_arguments(self._editor.settings),
        }
        with torch.no_grad(), encoded_once(pipe.vae, self._memory):
            output = pipe(**arguments)
        flagged = getattr(output, "nsfw_content_detected", None)
        images = output.images.detach().to("cpu", torch.float32)
        return Pixels(images, watch.finite(), flagged or [False] * len(trials))

    def _in_batches(self, trials: Sequence[Trial], tick: Tick) -> list[Render]:
        waiting = deque([list(trials)] if trials else [])
        wasted = dict.fromkeys((trial.id for trial in trials), 0)
        renders: list[Render] = []
        while waiting:
            batch = waiting.popleft()
            if self._largest_batch and len(batch) > self._largest_batch:
                waiting.extendleft(reversed(_halves(batch)))
                continue
            pixels, passes = self._attempt(batch, tick)
            if pixels is not None:
                notes = _memory_notes(len(trials), len(batch))
                renders += [
                    _render(pixels, row, trial, passes + wasted[trial.id], notes)
                    for row, trial in enumerate(batch)
                ]
                continue
            for trial in batch:
                wasted[trial.id] += passes
            if len(batch) > 1:
                self._largest_batch = (len(batch) + 1) // 2
                log.warning(
                    "%d images at once do not fit into memory; going on with %d. "
                    "Set EACPS_BATCH_SIZE to that.",
                    len(batch),
                    self._largest_batch,
                )
                waiting.extendleft(reversed(_halves(batch)))
            else:
                renders.append(Render(batch[0], wasted[batch[0].id], failure=_NO_MEMORY))
        return renders

    def _attempt(self, batch: Sequence[Trial], tick: Tick) -> tuple[Pixels | None, int]:
        """The images, or None when memory ran out; and the passes that each one cost."""
        before = self._editor.passes.rows
        pixels = None
        try:
            pixels = self.denoise(batch, tick)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: the traceback no longer holds the tensors that filled memory.
        if pixels is None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return pixels, round((self._editor.passes.rows - before) / len(batch))

    def _sized(self, task: EditTask, images: TaskImages) -> Inputs:
        reference = images.reference
        fitted = self._fit(reference) if reference else None
        return Inputs(task.instruction, self._fit(images.source), fitted)

    def _fit(self, image: Image.Image) -> Image.Image:
        family = self._family
        ratio = max(image.size) / min(image.size)
        if ratio > family.widest:
            raise EditorError(
                f"The image is {ratio:.0f} times as long as it is wide; {family.title} takes at "
                f"most {family.widest:.0f}.",
                hint="Crop the image.",
                code="image_shape",
            )
        longer = self._editor.settings.max_side
        longer = min(longer, family.native_side or longer)
        size = sizing.working_size(image.size, longer, family.multiple, family.shorter_side)
        return sizing.at_size(image, size)


class Pixels:
    """The images of one batch, and what is wrong with some of them."""

    def __init__(
        self, images: torch.Tensor, finite: Sequence[bool], flagged: Sequence[bool]
    ) -> None:
        self.images = images
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


_NO_MEMORY = Failure(
    "editor_out_of_memory",
    "Not even one image fits into memory. Lower EACPS_BATCH_SIZE or EACPS_MAX_SIDE, or set "
    "EACPS_OFFLOAD to model or sequential.",
)


def _halves(batch: list[Trial]) -> list[list[Trial]]:
    middle = (len(batch) + 1) // 2
    return [batch[:middle], batch[middle:]]


def _memory_notes(asked: int, rendered: int) -> tuple[str, ...]:
    if rendered == asked:
        return ()
    return (f"Memory was short: rendered {rendered} at once instead of {asked}.",)


def _render(pixels: Pixels, row: int, trial: Trial, nfe: int, notes: tuple[str, ...]) -> Render:
    failure = pixels.failure(row)
    image = None if failure else pixels.picture(row)
    return Render(trial, nfe, image, failure, notes=notes)
