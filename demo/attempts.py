"""Runs the pack's editors without a pipeline: many tasks in one batch, with previews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray

from demo.tensors import to_array, to_tensor
from eacps.demo.tasks import DemoTask, EditorSettings

Pictures = NDArray[numpy.uint8]
CONTEXT: Final = 24
PREVIEWS: Final = (0.2, 0.4, 0.6)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Edits [count, 64, 64, 3], and previews of them by share of completed steps."""

    finals: Pictures
    previews: list[tuple[float, Pictures]]


class Sampler:
    """An editor of the pack; equal to its diffusers pipeline at image guidance 1.

    At that value the pipeline's third, unconditional forward cancels out, so it is left away.
    `quick` calculates in bfloat16: nearly twice as fast, good to learn from, not to judge by.
    """

    def __init__(self, folder: Path, quick: bool = False) -> None:
        from diffusers import DiffusionPipeline

        pipeline: Any = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        self._unet, self._words = pipeline.unet.eval(), pipeline.text_encoder.eval()
        self._vae, self._tokenizer = pipeline.vae.eval(), pipeline.tokenizer
        self._vae.to(memory_format=torch.channels_last)
        self._scheduler, self._quick = pipeline.scheduler, quick

    def attempts(
        self,
        tasks: Sequence[DemoTask],
        seeds: Sequence[int],
        settings: EditorSettings,
        previews: Sequence[float] = (),
    ) -> Attempts:
        """One edit per task and seed; `previews` are shares of the steps, such as 0.4."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._quick):
            return self._attempts(tasks, seeds, settings, previews)

    def _attempts(
        self,
        tasks: Sequence[DemoTask],
        seeds: Sequence[int],
        settings: EditorSettings,
        previews: Sequence[float],
    ) -> Attempts:
        guided = settings.guidance > 1
        source = self._vae.encode(
            to_tensor(to_array([task.source for task in tasks]))
        ).latents.float()
        words = self._read([task.instruction for task in tasks])
        if guided:
            words = torch.cat([words, self._read([""] * len(tasks))])
        latents = torch.cat([_noise(seed, source) for seed in seeds])
        wanted = {max(1, round(share * settings.steps)) for share in previews}
        seen: list[tuple[float, Pictures]] = []
        self._scheduler.set_timesteps(settings.steps)
        for done, step in enumerate(self._scheduler.timesteps, start=1):
            both = torch.cat([latents, source], 1)
            guess = self._unet(both.repeat(1 + guided, 1, 1, 1), step, words).sample.float()
            if guided:
                asked, neutral = guess.chunk(2)
                guess = neutral + settings.guidance * (asked - neutral)
            moved = self._scheduler.step(guess, step, latents)
            latents = moved.prev_sample
            if done in wanted:
                seen.append((done / settings.steps, self._shown(moved.pred_original_sample)))
        return Attempts(self._shown(latents), seen)

    def _read(self, texts: list[str]) -> torch.Tensor:
        rows = self._tokenizer(
            texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        )
        words: torch.Tensor = self._words(rows.input_ids)[0]
        return words

    def _shown(self, latents: torch.Tensor) -> Pictures:
        pictures = self._vae.decode(latents).sample.float()
        levels = ((pictures / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        array: Pictures = levels.permute(0, 2, 3, 1).numpy()
        return array


def _noise(seed: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn((1, *like.shape[1:]), generator=torch.Generator().manual_seed(seed))
