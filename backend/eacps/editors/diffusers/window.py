"""Runs a part of a pipeline's schedule, so that a render can be paused and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

from eacps.errors import EditorError

RESUMABLE: Final = (
    "FlowMatchEulerDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
)
"""Solvers whose next step depends only on the latents, the step and the generator."""

_FOR_DIFFUSION = (
    'Set EACPS_PIPELINE_ARGS to {"scheduler": {"_class_name": "DDIMScheduler"}} '
    "(or EulerDiscreteScheduler, EulerAncestralDiscreteScheduler), or use a strategy that renders "
    "every trial to the end."
)
_FOR_FLOWS = (
    'Set EACPS_PIPELINE_ARGS to {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", '
    '"stochastic_sampling": false}}, or use a strategy that renders every trial to the end.'
)


def require_resumable(scheduler: Any) -> None:
    """Raise EditorError if a paused render would not resume exactly with this scheduler."""
    kind = type(scheduler)
    config = scheduler.config
    # Stochastic flows use torch's global generator, which is not part of the state.
    odd = config.get("stochastic_sampling") or config.get("invert_sigmas")
    if kind.__name__ in RESUMABLE and kind.__module__.startswith("diffusers.") and not odd:
        return
    flows = "Flow" in kind.__name__ or bool(config.get("use_flow_sigmas"))
    raise EditorError(
        f"A render cannot be paused with the scheduler {kind.__name__}"
        f"{' in its configuration' if kind.__name__ in RESUMABLE else ''}: after resuming, the "
        "image might differ.",
        hint=_FOR_FLOWS if flows else _FOR_DIFFUSION,
        code="cannot_pause",
    )


class Window:
    """Replaces a pipeline's scheduler, and runs only steps `start` to `stop` of its schedule.

    It computes the whole schedule and cuts it then, because the schedule's shift depends on the
    number of steps.
    """

    def __init__(self, scheduler: Any, start: int, stop: int | None) -> None:
        self._scheduler = scheduler
        self._start = start
        self._stop = stop
        self._done = 0
        self.latents: Any = None
        # Pipelines inspect both signatures for the arguments that they may pass.
        self.set_timesteps = _with_signature_of(scheduler.set_timesteps, self._set_timesteps)
        self.step = _with_signature_of(scheduler.step, self._step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    @property
    def init_noise_sigma(self) -> Any:
        """The factor of the initial latents; 1 for resumed ones, which are scaled already."""
        return 1.0 if self._start else self._scheduler.init_noise_sigma

    def _set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        scheduler = self._scheduler
        scheduler.set_timesteps(*args, **kwargs)
        scheduler.timesteps = scheduler.timesteps[self._start : self._stop]
        if hasattr(scheduler, "sigmas"):
            last = None if self._stop is None else self._stop + 1
            scheduler.sigmas = scheduler.sigmas[self._start : last]
        if self._start and hasattr(scheduler, "set_begin_index"):
            # A lookup by timestep could find a later step with the same timestep.
            scheduler.set_begin_index(0)
        self._done = 0

    def _step(self, prediction: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        scheduler = self._scheduler
        found = scheduler.step(prediction, timestep, sample, *args, **kwargs)
        self._done += 1
        if self._stop is None or self._done < len(scheduler.timesteps):
            return found
        self.latents, *estimates = found
        # Flow solvers do not return the estimate x0 = x - sigma v.
        sigma = None if estimates else scheduler.sigmas[self._done - 1].to(sample.device)
        clean = estimates[0] if estimates else sample.float() - sigma * prediction.float()
        # The pipeline decodes what its last step returns, here the preview.
        return (clean.to(self.latents.dtype), *estimates)


def _with_signature_of(
    original: Callable[..., Any], method: Callable[..., Any]
) -> Callable[..., Any]:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call


@contextmanager
def window(pipe: Any, start: int, stop: int | None) -> Iterator[Window]:
    """Make the pipeline run only steps `start` to `stop` (None: the end) of its schedule.

    If it stops before the end, it decodes the one-step estimate of the clean image.
    """
    scheduler = pipe.scheduler
    cut = Window(scheduler, start, stop)
    pipe.scheduler = cut
    try:
        yield cut
    finally:
        pipe.scheduler = scheduler
