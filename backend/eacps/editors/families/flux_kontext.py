"""FLUX.1 Kontext."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eacps.editors.diffusers.family import Arguments, Family, Inputs


class FluxKontext(Family):
    """Distilled guidance; classifier-free guidance by `true_cfg_scale` in EACPS_PIPELINE_ARGS."""

    title = "FLUX.1 Kontext"

    def encode(self, inputs: Inputs) -> Arguments:
        """T5 tokens and CLIP's pooled text."""
        embeds, pooled = self._embedded(inputs.instruction)
        encoded = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
        if float(self.call_settings.get("true_cfg_scale", 1)) > 1:
            embeds, pooled = self._embedded(self.settings.negative_prompt)
            encoded |= {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled}
        return encoded

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """One prompt per image: this pipeline repeats no embeddings that it is given."""
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
        """Channels, rows, columns of the latents."""
        grid = self.latent_grid
        return (int(self.pipe.latent_channels), height // grid, width // grid)

    def pack(self, noise: Any) -> Any:
        """Patches of two by two latents, one after the other."""
        return self.pipe._pack_latents(noise, *noise.shape)

    def unread_tokens(self, text: str) -> int:
        """Beyond what T5 is given; CLIP's pooled text only sets the tone."""
        return max(0, len(self.pipe.tokenizer_2(text).input_ids) - self._longest)

    @property
    def _longest(self) -> int:
        return int(self.call_settings.get("max_sequence_length", 512))

    def _embedded(self, text: str) -> tuple[Any, Any]:
        embeds, pooled, _ = self.pipe.encode_prompt(text, None, max_sequence_length=self._longest)
        return embeds, pooled
