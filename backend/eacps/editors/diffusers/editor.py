"""Any family's pipeline as an Editor: encode once, render in batches, survive lack of memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from pathlib import Path

import torch
from PIL import Image

from eacps.domain import EditTask, Failure, Trial
from eacps.editors.diffusers import sizing
from eacps.editors.diffusers.calls import (
    Generators,
    Memory,
    PassCounter,
    Pixels,
    StepWatch,
    encoded_once,
    is_out_of_memory,
    states_of,
)
from eacps.editors.diffusers.family import Arguments, Family, Inputs
from eacps.editors.diffusers.legs import Leg, Legs
from eacps.editors.diffusers.loading import call_arguments
from eacps.editors.diffusers.noise import materialise_all
from eacps.editors.diffusers.states import StateMemory
from eacps.editors.diffusers.window import require_resumable, window
from eacps.editors.protocol import Render, States, Tick, no_tick
from eacps.errors import EditorError
from eacps.images import TaskImages
from eacps.settings import Settings

log = logging.getLogger(__name__)

KEPT_TEXTS = 8
"""Instructions, with what was appended to them, whose encodings a session keeps."""


class DiffusersEditor:
    """A loaded pipeline; renders one batch at a time, whichever session asks."""

    def __init__(self, family: Family, settings: Settings) -> None:
        self.family = family
        self.settings = settings
        self.passes = PassCounter()
        self.paused = StateMemory(settings.paused_bytes)
        self.sessions = count()
        self.lock = threading.Lock()
        denoiser = getattr(family.pipe, family.denoiser)
        denoiser.register_forward_pre_hook(self.passes, with_kwargs=True)

    @property
    def name(self) -> str:
        """The family and the folder's or hub id's last part."""
        return f"{self.family.title} · {Path(self.settings.editor).name}"

    def open(self, task: EditTask, images: TaskImages) -> DiffusersSession:
        """Encode a task's prompt and images."""
        with self.lock:
            return DiffusersSession(self, task, images)


class DiffusersSession:
    """One task on one pipeline."""

    def __init__(self, editor: DiffusersEditor, task: EditTask, images: TaskImages) -> None:
        self._editor = editor
        self._family = editor.family
        self._memory: Memory = []
        self._largest_batch: int | None = None
        self._legs = Legs(task, editor.settings, editor.paused, next(editor.sessions))
        self.inputs = self._sized(task, images)
        self._shape = tuple(self._family.noise_shape(*self.inputs.source.size))
        # Not a method: a cache that knows its session would keep it on the GPU till a collection.
        self._encoded = lru_cache(KEPT_TEXTS)(partial(_encode, self._family, self.inputs))
        self._encoded("")

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> Sequence[Render]:
        """Render trials, those with the same way to go as one batch, or in smaller ones where
        memory is short."""
        if any(self._legs.stop(trial) is not None for trial in trials):
            require_resumable(self._family.pipe.scheduler)
        with self._editor.lock:
            prepared = [self._prepared(trial, states or {}) for trial in trials]
            renders = self._by_course([leg for leg in prepared if isinstance(leg, Leg)], tick)
            # Not before: what is cancelled half-way goes on from where it was before.
            self._remember(list(renders.values()))
        return [renders[leg] if isinstance(leg, Leg) else leg for leg in prepared]

    def denoise(self, legs: Sequence[Leg], tick: Tick = no_tick) -> Pixels:
        """One call of the pipeline, for legs of one course: their images as numbers from 0 to 1,
        and their states where they pause."""
        family, pipe = self._family, self._family.pipe
        start, stop, suffix = legs[0].course
        watch = StepWatch(tick)
        generators = Generators(legs, self._shape)
        arguments = {
            **family.arguments(self._encoded(suffix), self.inputs, len(legs)),
            "latents": self._latents(legs),
            "generator": generators.all,
            "num_inference_steps": self._editor.settings.steps,
            "callback_on_step_end": watch,
            "output_type": "pt",
            **call_arguments(self._editor.settings),
        }
        whole = start == 0 and stop is None
        steps = nullcontext(None) if whole else window(pipe, start, stop)
        with torch.no_grad(), encoded_once(pipe.vae, self._memory), steps as cut:
            output = pipe(**arguments)
        flagged = getattr(output, "nsfw_content_detected", None)
        return Pixels(
            images=output.images.detach().to("cpu", torch.float32),
            finite=watch.finite(),
            flagged=flagged or [False] * len(legs),
            states=states_of(cut, stop, generators),
        )

    def _latents(self, legs: Sequence[Leg]) -> torch.Tensor:
        kept = [leg.state.latents for leg in legs if leg.state]
        latents: torch.Tensor
        if kept:
            latents = self._family.repack(torch.stack(kept), *self.inputs.source.size)
        else:
            noises = materialise_all([leg.trial.noise for leg in legs], self._shape)
            latents = self._family.pack(noises)
        return latents

    def _prepared(self, trial: Trial, states: States) -> Leg | Render:
        """The trial's leg, or the render that says why it cannot be begun."""
        try:
            self._require_readable(trial.instruction_suffix)
            return self._legs.leg(trial, states)
        except EditorError as error:
            return Render(trial, 0, failure=Failure(error.code, str(error)))

    def _require_readable(self, suffix: str) -> None:
        unread = self._family.unread_tokens(_extended(self.inputs.instruction, suffix))
        if suffix and unread:
            raise EditorError(
                f"With what was appended to it the instruction is {unread} tokens longer than "
                f"{self._family.title} reads.",
                hint="Shorten the instruction, or use a strategy that appends nothing to it.",
                code="instruction_too_long",
            )

    def _remember(self, renders: Sequence[Render]) -> None:
        self._legs.remember(
            paused=[(render.trial, render.state) for render in renders if render.state],
            finished=[render.trial for render in renders if render.image and not render.state],
        )

    def _by_course(self, legs: Sequence[Leg], tick: Tick) -> dict[Leg, Render]:
        groups: dict[tuple[int, int | None, str], list[Leg]] = {}
        for leg in legs:
            groups.setdefault(leg.course, []).append(leg)
        renders: dict[Leg, Render] = {}
        for group in groups.values():
            renders |= self._in_batches(group, tick)
        return renders

    def _in_batches(self, group: list[Leg], tick: Tick) -> dict[Leg, Render]:
        """Renders of legs of one course, in as many batches as memory makes necessary."""
        waiting = deque([group])
        wasted = dict.fromkeys(group, 0)
        renders: dict[Leg, Render] = {}
        while waiting:
            batch = waiting.popleft()
            if self._largest_batch and len(batch) > self._largest_batch:
                waiting.extendleft(reversed(_halves(batch)))
                continue
            pixels, passes = self._attempt(batch, tick)
            if pixels is not None:
                notes = _memory_notes(len(group), len(batch))
                for row, leg in enumerate(batch):
                    renders[leg] = self._render(pixels, row, leg, passes + wasted[leg], notes)
                continue
            for leg in batch:
                wasted[leg] += passes
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
                (leg,) = batch
                renders[leg] = Render(leg.trial, wasted[leg], failure=_NO_MEMORY, notes=leg.notes)
        return renders

    def _attempt(self, batch: Sequence[Leg], tick: Tick) -> tuple[Pixels | None, int]:
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

    def _render(
        self, pixels: Pixels, row: int, leg: Leg, nfe: int, notes: tuple[str, ...]
    ) -> Render:
        notes = (*leg.notes, *notes)
        failure = pixels.failure(row)
        if failure:
            return Render(leg.trial, nfe, failure=failure, notes=notes)
        kept = pixels.states[row] if pixels.states else None
        state = self._legs.stored(leg, kept) if kept else None
        return Render(leg.trial, nfe, pixels.picture(row), state=state, notes=notes)

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


_NO_MEMORY = Failure(
    "editor_out_of_memory",
    "Not even one image fits into memory. Lower EACPS_BATCH_SIZE or EACPS_MAX_SIDE, or set "
    "EACPS_OFFLOAD to model or sequential.",
)


def _extended(instruction: str, suffix: str) -> str:
    return f"{instruction} {suffix}" if suffix else instruction


def _encode(family: Family, inputs: Inputs, suffix: str) -> Arguments:
    try:
        with torch.no_grad():
            return family.encode(replace(inputs, instruction=_extended(inputs.instruction, suffix)))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise EditorError(
            "There is not enough memory to encode the task.",
            hint="Lower EACPS_MAX_SIDE, or set EACPS_OFFLOAD.",
        ) from error


def _halves(batch: list[Leg]) -> list[list[Leg]]:
    middle = (len(batch) + 1) // 2
    return [batch[:middle], batch[middle:]]


def _memory_notes(asked: int, rendered: int) -> tuple[str, ...]:
    if rendered == asked:
        return ()
    return (f"Memory was short: rendered {rendered} at once instead of {asked}.",)
