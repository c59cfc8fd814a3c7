"""A part of a schedule ends where the whole one would, and sees the clean image on the way."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from eacps.editors.diffusers.window import require_resumable, window
from eacps.errors import EditorError

STEPS = 7
CLEAN = torch.linspace(-0.9, 0.9, 32).reshape(1, 2, 4, 4)
NOISE = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(3))
DDIM_OF_THE_DEMO = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
SOLVERS = [
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    diffusers.FlowMatchEulerDiscreteScheduler(shift_terminal=0.02, use_karras_sigmas=True),
    diffusers.EulerDiscreteScheduler(steps_offset=1),
    diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, prediction_type="v_prediction"),
    # Its last two timesteps are equal.
    diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, sigma_min=1e-4, sigma_max=14.6),
    diffusers.EulerAncestralDiscreteScheduler(),
    diffusers.DDIMScheduler(clip_sample=False),
    diffusers.DDIMScheduler(**DDIM_OF_THE_DEMO),
]
every_solver = pytest.mark.parametrize(
    "scheduler", SOLVERS, ids=lambda s: f"{type(s).__name__}-{SOLVERS.index(s)}"
)


def run(
    pipe: Any, latents: torch.Tensor, draws: torch.Generator, predict: Any = torch.sin
) -> torch.Tensor:
    """The loop of every pipeline."""
    pipe.scheduler.set_timesteps(STEPS)
    flows = "Flow" in type(pipe.plain).__name__
    extra = {} if flows else {"generator": draws}
    if not flows:
        latents = latents * pipe.scheduler.init_noise_sigma
    for timestep in pipe.scheduler.timesteps:
        if not flows:
            pipe.scheduler.scale_model_input(latents, timestep)
        prediction = predict(latents)
        latents = pipe.scheduler.step(prediction, timestep, latents, return_dict=False, **extra)[0]
    return latents


def pipe_with(scheduler: Any) -> Any:
    return SimpleNamespace(scheduler=scheduler, plain=scheduler)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@every_solver
@pytest.mark.parametrize("stop", [1, 5, STEPS - 1])
def test_a_schedule_in_two_parts_ends_exactly_where_it_ends_in_one(
    scheduler: Any, stop: int
) -> None:
    pipe = pipe_with(scheduler)
    whole = run(pipe, NOISE, draws())
    generator = draws()
    with window(pipe, 0, stop) as first:
        run(pipe, NOISE, generator)
    with window(pipe, stop, None):
        resumed = run(pipe, first.latents, generator)
    assert torch.equal(resumed, whole)
    assert pipe.scheduler is scheduler
    assert torch.equal(run(pipe, NOISE, draws()), whole), "a window leaves no trace"


@every_solver
@pytest.mark.parametrize("stop", [1, 4])
def test_the_preview_of_a_perfect_denoiser_is_the_clean_image(scheduler: Any, stop: int) -> None:
    """Each kind of model, asked at any noise, says what the clean image is."""

    calls = count()

    def perfect(latents: torch.Tensor) -> torch.Tensor:
        index = next(calls)
        if isinstance(scheduler, diffusers.DDIMScheduler):
            alpha: torch.Tensor = scheduler.alphas_cumprod[scheduler.timesteps[index]]
            scale, rest = alpha.sqrt(), (1 - alpha).sqrt()
            noise = (latents - scale * CLEAN) / rest
            v_model = scheduler.config.prediction_type == "v_prediction"
            return scale * noise - rest * CLEAN if v_model else noise
        sigma: torch.Tensor = scheduler.sigmas[index]
        noise = (latents - CLEAN) / sigma
        if scheduler.config.get("prediction_type") == "v_prediction":
            return (latents / (1 + sigma**2).sqrt() - (1 + sigma**2).sqrt() * CLEAN) / sigma
        return noise

    pipe = pipe_with(scheduler)
    with window(pipe, 0, stop):
        preview = run(pipe, NOISE, draws(), perfect)
    assert float((preview - CLEAN).abs().max()) < 2e-4


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.PNDMScheduler(),
        diffusers.LMSDiscreteScheduler(),
        diffusers.DPMSolverMultistepScheduler(),
        diffusers.DPMSolverSinglestepScheduler(),
        diffusers.UniPCMultistepScheduler(),
        diffusers.DEISMultistepScheduler(),
        diffusers.HeunDiscreteScheduler(),
        diffusers.FlowMatchHeunDiscreteScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
        type("DDIMScheduler", (diffusers.DDIMScheduler,), {"__module__": "elsewhere"})(),
    ],
    ids=lambda s: type(s).__name__,
)
def test_solvers_that_do_not_resume_exactly_are_refused_with_one_that_does(scheduler: Any) -> None:
    with pytest.raises(EditorError, match=type(scheduler).__name__) as caught:
        require_resumable(scheduler)
    flows = "Flow" in type(scheduler).__name__
    assert ("FlowMatchEulerDiscreteScheduler" if flows else "DDIMScheduler") in caught.value.hint
    assert "EACPS_PIPELINE_ARGS" in caught.value.hint


@every_solver
def test_solvers_that_resume_exactly_are_accepted(scheduler: Any) -> None:
    require_resumable(scheduler)
