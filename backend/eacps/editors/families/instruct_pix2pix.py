"""InstructPix2Pix: Stable Diffusion editors, and the demo pack's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from eacps.editors.diffusers.family import Arguments, Family, Inputs


class InstructPix2Pix(Family):
    """A UNet that sees the source's latents beside the noise, with two guidances."""

    title = "InstructPix2Pix"
    denoiser = "unet"

    def mend(self) -> None:
        """Skip the third guidance row where it cancels out."""
        # One image for several noises is what we mean; the pipeline warns of it in every call.
        warnings.filterwarnings("ignore", "You have passed .* text prompts", FutureWarning)
        if self._guided and self._image_guidance == 1:
            self.pipe.unet.register_forward_pre_hook(_without_last_third, with_kwargs=True)
            self.pipe.unet.register_forward_hook(_repeat_second_half)

    @property
    def multiple(self) -> int:
        """The autoencoder's; the UNet takes odd latents."""
        return self.latent_grid

    @property
    def native_side(self) -> int:
        """A UNet works at the size that it was trained for."""
        sample = self.pipe.unet.config.sample_size
        return int(max(sample) if isinstance(sample, (list, tuple)) else sample) * self.latent_grid

    def encode(self, inputs: Inputs) -> Arguments:
        """Text embeddings; the image is encoded by the pipeline."""
        encoded = {"prompt_embeds": self._embedded(inputs.instruction)}
        if self._guided:
            encoded["negative_prompt_embeds"] = self._embedded(self.settings.negative_prompt)
        return encoded

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """The working size follows from the image here."""
        return {
            **encoded,
            "image": inputs.source,
            "num_images_per_prompt": count,
            "guidance_scale": self._guidance,
            "image_guidance_scale": self._image_guidance,
        }

    def noise_shape(self, width: int, height: int) -> Sequence[int]:
        """Channels, rows, columns of the latents."""
        grid = self.latent_grid
        return (int(self.pipe.vae.config.latent_channels), height // grid, width // grid)

    def pack(self, noise: Any) -> Any:
        """In the UNet's number type: this pipeline does not convert what it is given."""
        return noise.to(self.pipe.unet.dtype)

    def repack(self, latents: Any, width: int, height: int) -> Any:  # noqa: ARG002
        """As for noise."""
        return self.pack(latents)

    def unread_tokens(self, text: str) -> int:
        """Beyond the tokenizer's length."""
        tokenizer = self.pipe.tokenizer
        return max(0, len(tokenizer(text).input_ids) - int(tokenizer.model_max_length))

    @property
    def _guidance(self) -> float:
        return float(self.call_settings.get("guidance_scale", self.settings.guidance))

    @property
    def _image_guidance(self) -> float:
        configured = self.settings.image_guidance
        return float(self.call_settings.get("image_guidance_scale", configured))

    @property
    def _guided(self) -> bool:
        return self._guidance > 1 and self._image_guidance >= 1

    def _embedded(self, text: str) -> Any:
        # The pipeline has no public call for this; its own method keeps truncation, textual
        # inversion and attention masks as they are in a plain call.
        return self.pipe._encode_prompt(text, self.pipe._execution_device, 1, False)


def _without_last_third(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """noise = none + g (text - image) + 1 (image - none): at image guidance 1, `none` (the last
    third of the rows) cancels out and need not be computed."""
    sample, *rest = args
    rows = len(sample) // 3 * 2
    text = kwargs["encoder_hidden_states"][:rows]
    return (sample[:rows], *rest), {**kwargs, "encoder_hidden_states": text}


def _repeat_second_half(_module: Any, _args: tuple[Any, ...], output: Any) -> Any:
    predicted = output[0]
    return (torch.cat([predicted, predicted[len(predicted) // 2 :]]),)
