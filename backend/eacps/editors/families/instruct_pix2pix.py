"""InstructPix2Pix: Stable Diffusion editors and the demo's editor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from eacps.editors.diffusers.family import Arguments, Family, Inputs


class InstructPix2Pix(Family):
    """A UNet that gets the source's latents along with the noise; guided by text and image."""

    title = "InstructPix2Pix"
    denoiser = "unet"

    def prepare(self) -> None:
        """Skip the third guidance row where it cancels out."""
        # One image for several noises is intended, but the pipeline warns about it in every call.
        warnings.filterwarnings("ignore", "You have passed .* text prompts", FutureWarning)
        if self._guided and self._image_guidance == 1:
            self.pipe.unet.register_forward_pre_hook(_without_last_third, with_kwargs=True)
            self.pipe.unet.register_forward_hook(_repeat_second_half)

    @property
    def multiple(self) -> int:
        """The factor of the autoencoder; the UNet also accepts odd numbers of latents."""
        return self.latent_grid

    @property
    def native_side(self) -> int:
        """The size that the UNet was trained for."""
        sample = self.pipe.unet.config.sample_size
        return int(max(sample) if isinstance(sample, (list, tuple)) else sample) * self.latent_grid

    def encode(self, inputs: Inputs) -> Arguments:
        """Encode the text only; the pipeline encodes the image."""
        encoded = {"prompt_embeds": self._embed(inputs.instruction)}
        if self._guided:
            encoded["negative_prompt_embeds"] = self._embed(self.settings.negative_prompt)
        return encoded

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """Leave out width and height, which this pipeline takes from the image."""
        return {
            **encoded,
            "image": inputs.source,
            "num_images_per_prompt": count,
            "guidance_scale": self._guidance,
            "image_guidance_scale": self._image_guidance,
        }

    def noise_shape(self, width: int, height: int) -> Sequence[int]:
        """Channels, rows and columns of the latents."""
        grid = self.latent_grid
        return (int(self.pipe.vae.config.latent_channels), height // grid, width // grid)

    def pack(self, noise: Any) -> Any:
        """Convert to the UNet's dtype, because this pipeline does not."""
        return noise.to(self.pipe.unet.dtype)

    def repack(self, latents: Any, width: int, height: int) -> Any:  # noqa: ARG002
        """Convert like noise."""
        return self.pack(latents)

    def unread_tokens(self, text: str) -> int:
        """Count tokens beyond the tokenizer's maximum length."""
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

    def _embed(self, text: str) -> Any:
        # The pipeline has no public call for this; its own method keeps truncation, textual
        # inversion and attention masks as they are in a plain call.
        return self.pipe._encode_prompt(text, self.pipe._execution_device, 1, False)


def _without_last_third(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Drop the rows of the unconditional prediction, the last third.

    noise = none + g (text - image) + s (image - none), so `none` cancels out if the image guidance
    s is 1.
    """
    sample, *rest = args
    rows = len(sample) // 3 * 2
    text = kwargs["encoder_hidden_states"][:rows]
    return (sample[:rows], *rest), {**kwargs, "encoder_hidden_states": text}


def _repeat_second_half(_module: Any, _args: tuple[Any, ...], output: Any) -> Any:
    predicted = output[0]
    return (torch.cat([predicted, predicted[len(predicted) // 2 :]]),)
