"""The editor: a small text encoder, and a UNet conditioned on the source's latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

from demo.training.autoencoder import CHANNELS, LATENT_SIZE
from demo.training.latents import Batch, batches
from demo.training.optimisation import MovingAverage, Tick, cosine, descend, set_learning_rate
from demo.training.recipe import Recipe, Stage
from demo.training.tokenizer import CONTEXT, token_ids

TEXT_WIDTH: Final = 96
TRAIN_STEPS: Final = 1000
CHANGED: Final = 0.35
"""A latent that changes by more than this belongs to the edited region."""


def noise_schedule(scheduler: Any, **extra: Any) -> Any:
    """A diffusers scheduler with the editor's training schedule."""
    return scheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        **extra,
    )


def build_unet() -> Any:
    """An untrained UNet, whose input is noisy latents and source latents."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=2 * CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(48, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(vocabulary: int) -> Any:
    """An untrained CLIP text model of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            projection_dim=TEXT_WIDTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


@dataclass(frozen=True, slots=True)
class Networks:
    """The two networks that are trained together, and what their loss needs."""

    unet: Any
    text_encoder: Any
    alphas: torch.Tensor
    empty_ids: torch.Tensor

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """All trainable weights."""
        return [*self.unet.parameters(), *self.text_encoder.parameters()]

    def save(self, folder: Path) -> None:
        """Write both networks."""
        self.unet.save_pretrained(folder / "unet")
        self.text_encoder.save_pretrained(folder / "text_encoder")


def _networks(tokenizer: Any) -> Networks:
    from diffusers import DDPMScheduler

    return Networks(
        unet=build_unet().to(memory_format=torch.channels_last),
        text_encoder=build_text_encoder(len(tokenizer)),
        alphas=noise_schedule(DDPMScheduler).alphas_cumprod,
        empty_ids=torch.from_numpy(token_ids(tokenizer, [""])).long(),
    )


def train_editor(recipe: Recipe, latents: Path, tokenizer: Any, folder: Path, tick: Tick) -> None:
    """Train in two phases; writes `early` after the first and `final` after the second."""
    torch.manual_seed(recipe.editor_first.seed)
    networks = _networks(tokenizer)
    average = _phase(networks, recipe.editor_first, latents, tick, {})
    # The second phase starts from the averaged weights with a new optimiser.
    average.swap()
    saves = {recipe.editor_early_step: folder / "early"}
    average = _phase(networks, recipe.editor_second, latents, tick, saves)
    average.swap()
    networks.save(folder / "final")


def _phase(
    networks: Networks, stage: Stage, latents: Path, tick: Tick, saves: dict[int, Path]
) -> MovingAverage:
    random = torch.Generator().manual_seed(stage.seed)
    draw = batches(latents, stage.batch, stage.seed)
    parameters = networks.parameters
    optimiser = torch.optim.AdamW(
        parameters, stage.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    average = MovingAverage(parameters, decay=0.999)
    for step in range(stage.steps):
        shape = cosine(step, stage.steps, warmup=200, floor=0.02, hold=0.3)
        set_learning_rate(optimiser, stage.learning_rate * shape)
        descend(optimiser, _loss(networks, draw(), random), parameters)
        average.update()
        if step + 1 in saves:
            average.swap()
            networks.save(saves[step + 1])
            average.swap()
        tick()
    return average


def _loss(networks: Networks, batch: Batch, random: torch.Generator) -> torch.Tensor:
    weight = _edit_weight(batch)
    source, ids = _with_dropped_conditions(networks, batch, random)
    count = len(source)
    # Sample noisy steps more often, because they determine the layout of an edit.
    early = torch.rand(count, generator=random) ** 0.8
    step = (TRAIN_STEPS * early).long().clamp(max=TRAIN_STEPS - 1)
    alpha = networks.alphas[step].view(-1, 1, 1, 1)
    noise = torch.randn(batch.target.shape, generator=random)
    noisy = alpha.sqrt() * batch.target + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * batch.target
    words = networks.text_encoder(ids)[0]
    seen = torch.cat([noisy, source], 1).contiguous(memory_format=torch.channels_last)
    guess = networks.unet(seen, step, words, return_dict=False)[0]
    loss: torch.Tensor = ((guess - velocity).pow(2) * weight).mean()
    return loss


def _edit_weight(batch: Batch) -> torch.Tensor:
    change = (batch.source - batch.target).abs().amax(1, keepdim=True)
    region = functional.max_pool2d((change > CHANGED).float(), 3, 1, 1)
    weight = 1 + 5 * region
    return weight / weight.mean((1, 2, 3), keepdim=True).clamp(max=4)


def _with_dropped_conditions(
    networks: Networks, batch: Batch, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Drop the text, the source, or both, in 5 % of cases each, for classifier-free guidance."""
    draw = torch.rand(len(batch.source), generator=random)
    without_text = (draw < 0.05) | ((draw >= 0.1) & (draw < 0.15))
    without_source = (draw >= 0.05) & (draw < 0.15)
    ids = torch.where(without_text[:, None], networks.empty_ids, batch.ids)
    source = batch.source * (~without_source).float()[:, None, None, None]
    return source, ids
