"""FLUX.1 Kontext."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eacps.editors.diffusers.family import Arguments, Family, Inputs


class FluxKontext(Family):
    """Distilled guidance; `true_cfg_scale` in EACPS_PIPELINE_ARGS adds classifier-free guidance."""

    title = "FLUX.1 Kontext"

    def encode(self, inputs: Inputs) -> Arguments:
        """Encode the prompt with T5 and CLIP."""
        embeds, pooled = self._embed(inputs.instruction)
        encoded = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
        if float(self.call_settings.get("true_cfg_scale", 1)) > 1:
            embeds, pooled = self._embed(self.settings.negative_prompt)
            encoded |= {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled}
        return encoded

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """Repeat the embeddings per image, which this pipeline does not do itself."""
        width, height = inputs.source.size
        repeated = {
            name: embeds.repeat(count, *[1] * (embeds.ndim - 1)) for name, embeds in encoded.items()
        }
        return {
            **super().arguments(repeated, inputs, count),
            "num_images_per_prompt": 1,
            "max_area": width * height,
            "_auto_resize": False,
            "guidance_scale": self.settings.guidance,
        }

    def noise_shape(self, width: int, height: int) -> Sequence[int]:
        """Channels, rows and columns of the latents."""
        grid = self.latent_grid
        return (int(self.pipe.latent_channels), height // grid, width // grid)

    def pack(self, noise: Any) -> Any:
        """Turn the latents into a sequence of 2x2 patches."""
        return self.pipe._pack_latents(noise, *noise.shape)

    def unread_tokens(self, text: str) -> int:
        """Count T5 tokens only; CLIP's pooled embedding matters little."""
        return max(0, len(self.pipe.tokenizer_2(text).input_ids) - self._longest)

    @property
    def _longest(self) -> int:
        return int(self.call_settings.get("max_sequence_length", 512))

    def _embed(self, text: str) -> tuple[Any, Any]:
        embeds, pooled, _ = self.pipe.encode_prompt(text, None, max_sequence_length=self._longest)
        return embeds, pooled
