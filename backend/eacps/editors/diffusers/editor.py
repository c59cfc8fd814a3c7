"""Any family's pipeline as an Editor: encodes once, renders in batches that fit into memory."""

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
    BatchOutput,
    EncodeCache,
    Generators,
    PassCounter,
    StepCallback,
    batch_states,
    cached_vae_encode,
    is_out_of_memory,
)
from eacps.editors.diffusers.family import Arguments, Family, Inputs
from eacps.editors.diffusers.loading import call_arguments
from eacps.editors.diffusers.noise import materialise_all
from eacps.editors.diffusers.segments import BatchKey, Segment, Segments
from eacps.editors.diffusers.states import StateCache
from eacps.editors.diffusers.window import require_resumable, window
from eacps.editors.protocol import Render, States, Tick, no_tick
from eacps.errors import EditorError
from eacps.images import TaskImages
from eacps.settings import Settings

log = logging.getLogger(__name__)

CACHED_SUFFIXES = 8
"""A session caches the encodings of this many instruction suffixes."""


class DiffusersEditor:
    """A loaded pipeline. Its sessions share a lock, so it renders one batch at a time."""

    def __init__(self, family: Family, settings: Settings) -> None:
        self.family = family
        self.settings = settings
        self.passes = PassCounter()
        self.paused = StateCache(settings.paused_bytes)
        self.sessions = count()
        self.lock = threading.Lock()
        denoiser = getattr(family.pipe, family.denoiser)
        denoiser.register_forward_pre_hook(self.passes, with_kwargs=True)

    @property
    def name(self) -> str:
        """The family's title and the last part of the folder or hub id."""
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
        self._encode_cache: EncodeCache = []
        self._largest_batch: int | None = None
        self._segments = Segments(task, editor.settings, editor.paused, next(editor.sessions))
        self.inputs = self._inputs(task, images)
        self._shape = tuple(self._family.noise_shape(*self.inputs.source.size))
        # A cached method would form a reference cycle, and keep tensors on the GPU until a garbage
        # collection.
        self._encoded = lru_cache(CACHED_SUFFIXES)(partial(_encode, self._family, self.inputs))
        self._encoded("")

    def advance(
        self, trials: Sequence[Trial], tick: Tick = no_tick, states: States | None = None
    ) -> Sequence[Render]:
        """Render trials; those with the same steps left form one batch, or several smaller ones if
        memory is short."""
        if any(self._segments.stop(trial) is not None for trial in trials):
            require_resumable(self._family.pipe.scheduler)
        with self._editor.lock:
            prepared = [self._segment(trial, states or {}) for trial in trials]
            renders = self._by_batch_key(
                [segment for segment in prepared if isinstance(segment, Segment)], tick
            )
            # Only now: after a cancelled call, its trials resume from their previous states.
            self._remember(list(renders.values()))
        return [
            renders[segment] if isinstance(segment, Segment) else segment for segment in prepared
        ]

    def denoise(self, segments: Sequence[Segment], tick: Tick = no_tick) -> BatchOutput:
        """Call the pipeline once, for segments with the same batch key."""
        family, pipe = self._family, self._family.pipe
        start, stop, drafted, suffix = segments[0].batch_key
        callback = StepCallback(tick)
        generators = Generators(segments, self._shape)
        arguments = {
            **family.arguments(self._encoded(suffix), self.inputs, len(segments)),
            "latents": self._latents(segments),
            "generator": generators.all,
            "num_inference_steps": drafted or self._segments.steps,
            "callback_on_step_end": callback,
            "output_type": "pt",
            **call_arguments(self._editor.settings),
        }
        whole = start == 0 and stop is None
        steps = nullcontext(None) if whole else window(pipe, start, stop)
        with (
            torch.no_grad(),
            cached_vae_encode(pipe.vae, self._encode_cache),
            steps as partial_schedule,
        ):
            output = pipe(**arguments)
        flagged = getattr(output, "nsfw_content_detected", None)
        return BatchOutput(
            images=output.images.detach().to("cpu", torch.float32),
            finite=callback.finite(),
            flagged=flagged or [False] * len(segments),
            states=batch_states(partial_schedule, stop, generators),
        )

    def _latents(self, segments: Sequence[Segment]) -> torch.Tensor:
        kept = [segment.state.latents for segment in segments if segment.state]
        latents: torch.Tensor
        if kept:
            latents = self._family.repack(torch.stack(kept), *self.inputs.source.size)
        else:
            noises = materialise_all([segment.trial.noise for segment in segments], self._shape)
            latents = self._family.pack(noises)
        return latents

    def _segment(self, trial: Trial, states: States) -> Segment | Render:
        """The trial's segment, or a failed render if it cannot start."""
        try:
            self._require_readable(trial.instruction_suffix)
            return self._segments.segment(trial, states)
        except EditorError as error:
            return Render(trial, 0, failure=Failure(error.code, str(error)))

    def _require_readable(self, suffix: str) -> None:
        unread = self._family.unread_tokens(_with_suffix(self.inputs.instruction, suffix))
        if suffix and unread:
            raise EditorError(
                f"With its appended text, the instruction is {unread} tokens longer than "
                f"the limit of {self._family.title}.",
                hint="Shorten the instruction, or use a strategy that does not append to it.",
                code="instruction_too_long",
            )

    def _remember(self, renders: Sequence[Render]) -> None:
        self._segments.remember(
            paused=[(render.trial, render.state) for render in renders if render.state],
            finished=[render.trial for render in renders if render.image and not render.state],
        )

    def _by_batch_key(self, segments: Sequence[Segment], tick: Tick) -> dict[Segment, Render]:
        groups: dict[BatchKey, list[Segment]] = {}
        for segment in segments:
            groups.setdefault(segment.batch_key, []).append(segment)
        renders: dict[Segment, Render] = {}
        for group in groups.values():
            renders |= self._in_batches(group, tick)
        return renders

    def _in_batches(self, group: list[Segment], tick: Tick) -> dict[Segment, Render]:
        """Render segments with one batch key, in as many batches as memory requires."""
        waiting = deque([group])
        wasted = dict.fromkeys(group, 0)
        renders: dict[Segment, Render] = {}
        while waiting:
            batch = waiting.popleft()
            if self._largest_batch and len(batch) > self._largest_batch:
                waiting.extendleft(reversed(_halves(batch)))
                continue
            output, passes = self._attempt(batch, tick)
            if output is not None:
                notes = _low_memory_notes(len(group), len(batch))
                for row, segment in enumerate(batch):
                    renders[segment] = self._render(
                        output, row, segment, passes + wasted[segment], notes
                    )
                continue
            for segment in batch:
                wasted[segment] += passes
            if len(batch) > 1:
                self._largest_batch = (len(batch) + 1) // 2
                log.warning(
                    "A batch of %d images does not fit into memory; continuing with %d. "
                    "Set EACPS_BATCH_SIZE to that number.",
                    len(batch),
                    self._largest_batch,
                )
                waiting.extendleft(reversed(_halves(batch)))
            else:
                (segment,) = batch
                renders[segment] = Render(
                    segment.trial, wasted[segment], failure=_NO_MEMORY, notes=segment.notes
                )
        return renders

    def _attempt(self, batch: Sequence[Segment], tick: Tick) -> tuple[BatchOutput | None, int]:
        """The output, or None if memory ran out, and the forward passes per image."""
        before = self._editor.passes.rows
        output = None
        try:
            output = self.denoise(batch, tick)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, where the traceback no longer references the tensors.
        if output is None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return output, round((self._editor.passes.rows - before) / len(batch))

    def _render(
        self, output: BatchOutput, row: int, segment: Segment, nfe: int, notes: tuple[str, ...]
    ) -> Render:
        notes = (*segment.notes, *notes)
        failure = output.failure(row)
        if failure:
            return Render(segment.trial, nfe, failure=failure, notes=notes)
        kept = output.states[row] if output.states else None
        state = self._segments.stored(segment, kept) if kept else None
        return Render(segment.trial, nfe, output.picture(row), state=state, notes=notes)

    def _inputs(self, task: EditTask, images: TaskImages) -> Inputs:
        reference = images.reference
        fitted = self._fit(reference) if reference else None
        return Inputs(task.instruction, self._fit(images.source), fitted)

    def _fit(self, image: Image.Image) -> Image.Image:
        family = self._family
        ratio = max(image.size) / min(image.size)
        if ratio > family.max_aspect_ratio:
            raise EditorError(
                f"The image is {ratio:.0f} times as long as it is wide; {family.title} accepts at "
                f"most {family.max_aspect_ratio:.0f}.",
                hint="Crop the image.",
                code="image_shape",
            )
        longer = self._editor.settings.max_side
        longer = min(longer, family.native_side or longer)
        size = sizing.working_size(image.size, longer, family.multiple, family.min_short_side)
        return sizing.at_size(image, size)


_NO_MEMORY = Failure(
    "editor_out_of_memory",
    "Not even one image fits into memory. Lower EACPS_BATCH_SIZE or EACPS_MAX_SIDE, or set "
    "EACPS_OFFLOAD to model or sequential.",
)


def _with_suffix(instruction: str, suffix: str) -> str:
    return f"{instruction} {suffix}" if suffix else instruction


def _encode(family: Family, inputs: Inputs, suffix: str) -> Arguments:
    try:
        with torch.no_grad():
            return family.encode(
                replace(inputs, instruction=_with_suffix(inputs.instruction, suffix))
            )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise EditorError(
            "Not enough memory to encode the task.",
            hint="Lower EACPS_MAX_SIDE, or set EACPS_OFFLOAD.",
        ) from error


def _halves(batch: list[Segment]) -> list[list[Segment]]:
    middle = (len(batch) + 1) // 2
    return [batch[:middle], batch[middle:]]


def _low_memory_notes(asked: int, rendered: int) -> tuple[str, ...]:
    if rendered == asked:
        return ()
    return (f"Low memory: rendered {rendered} images at once instead of {asked}.",)
