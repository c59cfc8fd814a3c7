"""The picture codec: 64 x 64 x 3 to 16 x 16 x 6 and back, with unit-variance latents."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

import torch

from demo.tensors import to_tensor
from demo.training.data import pairs, scenes
from demo.training.optimisation import MovingAverage, Tick, cosine, descend, set_learning_rate
from demo.training.recipe import Recipe

CHANNELS: Final = 6
LATENT_SIZE: Final = 16
WIDTHS: Final = (32, 32, 32)


def build() -> Any:
    """An untrained AutoencoderTiny."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        num_encoder_blocks=(0, 1, 3),
        num_decoder_blocks=(3, 3, 0),
    )


class Autoencoder:
    """A trained codec, for inference."""

    def __init__(self, folder: Path) -> None:
        from diffusers import AutoencoderTiny

        model = AutoencoderTiny.from_pretrained(folder, dtype=torch.float32)
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def encoded(self, pictures: torch.Tensor) -> torch.Tensor:
        """The latents of pictures in -1..1."""
        latents: torch.Tensor = self.model.encode(pictures).latents
        return latents

    @torch.no_grad()
    def decoded(self, latents: torch.Tensor) -> torch.Tensor:
        """The pictures of latents."""
        pictures: torch.Tensor = self.model.decode(latents).sample
        return pictures.clamp(-1, 1)

    def shown(self, pictures: torch.Tensor) -> torch.Tensor:
        """The pictures after encoding and decoding."""
        return torch.cat([self.decoded(self.encoded(part)) for part in torch.split(pictures, 64)])

    def noisy(self, pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """The pictures after encoding and decoding with noise on the latents."""
        latents = self.encoded(pictures)
        amount = 0.35 * torch.rand((len(latents), 1, 1, 1), generator=random)
        return self.decoded(latents + amount * torch.randn(latents.shape, generator=random))


def train_autoencoder(recipe: Recipe, folder: Path, tick: Tick) -> dict[str, float]:
    """Train and write a codec; return its PSNR on unseen scenes."""
    stage = recipe.autoencoder
    torch.manual_seed(stage.seed)
    generator, random = torch.Generator().manual_seed(stage.seed), Random(stage.seed)
    model = build().to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(
        parameters, stage.learning_rate, betas=(0.9, 0.98), weight_decay=1e-3
    )
    average = MovingAverage(parameters, decay=0.998)
    for step in range(stage.steps):
        rate = stage.learning_rate * cosine(step, stage.steps, warmup=60, floor=0.02)
        set_learning_rate(optimiser, rate)
        pictures, _ = pairs(stage.batch // 2, random)
        batch = to_tensor(pictures.reshape(-1, *pictures.shape[2:]))
        batch = batch.contiguous(memory_format=torch.channels_last)
        descend(optimiser, _loss(model, batch, generator), parameters)
        average.update()
        tick()
    average.swap()
    model.save_pretrained(folder)
    return {"psnr": _psnr(Autoencoder(folder), recipe)}


def _loss(model: Any, pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.encode(pictures).latents.float()
        noise = 0.07 * torch.randn(latents.shape, generator=random)
        shown = model.decode(latents + noise).sample
    error = shown.float() - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    centred = latents.mean((0, 2, 3)).pow(2).mean()
    scaled = (latents.std((0, 2, 3)) - 1).pow(2).mean()
    fidelity = error.abs().mean() + 2 * error.pow(2).mean() + 0.5 * edges
    loss: torch.Tensor = fidelity + 0.02 * (centred + scaled)
    return loss


def _psnr(autoencoder: Autoencoder, recipe: Recipe) -> float:
    pictures, _ = scenes(min(recipe.held_out, 256), Random(recipe.held_out_seed))
    truth = to_tensor(pictures)
    error = (autoencoder.shown(truth) - truth).pow(2).mean()
    return (10 * torch.log10(4 / error)).item()
