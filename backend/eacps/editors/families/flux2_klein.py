"""FLUX.2 Klein."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eacps.editors.diffusers.family import Arguments, Family, Inputs


class Flux2Klein(Family):
    """Takes a source and optionally a reference; the distilled weights ignore guidance."""

    title = "FLUX.2 Klein"
    min_short_side = 64
    max_aspect_ratio = 8.0

    def encode(self, inputs: Inputs) -> Arguments:
        """Encode the prompt, and the empty text as the negative prompt if there is guidance."""
        encoded = {"prompt_embeds": self._embed(inputs.instruction)}
        if self._guidance > 1:
            encoded["negative_prompt_embeds"] = self._embed("")
        return encoded

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """Add all pictures."""
        return {
            **super().arguments(encoded, inputs, count),
            "image": inputs.pictures,
            "guidance_scale": self._guidance,
        }

    def noise_shape(self, width: int, height: int) -> Sequence[int]:
        """Channels, rows and columns of 2x2 patches of latents."""
        patch = self.latent_grid * 2
        return (int(self.pipe.transformer.config.in_channels), height // patch, width // patch)

    def repack(self, latents: Any, width: int, height: int) -> Any:
        """Turn the loop's sequence of patches into the grid that `latents` expects."""
        return latents.permute(0, 2, 1).unflatten(2, self.noise_shape(width, height)[1:])

    def unread_tokens(self, text: str) -> int:
        """Count tokens beyond `max_sequence_length`, including the chat template."""
        asked = self.pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        longest = int(self.call_settings.get("max_sequence_length", 512))
        return max(0, len(self.pipe.tokenizer(asked).input_ids) - longest)

    @property
    def _guidance(self) -> float:
        if self.pipe.config.is_distilled:
            return 1.0
        return float(self.call_settings.get("guidance_scale", self.settings.guidance))

    def _embed(self, text: str) -> object:
        known = ("max_sequence_length", "text_encoder_out_layers")
        chosen = {name: self.call_settings[name] for name in known if name in self.call_settings}
        embeds, _ = self.pipe.encode_prompt(text, **chosen)
        return embeds
