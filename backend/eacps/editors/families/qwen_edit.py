"""Qwen-Image-Edit and Qwen-Image-Edit-Plus (2509, 2511)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from PIL import Image

from eacps.editors.diffusers.family import Arguments, Family, Inputs

CONDITION_AREA = 1024 * 1024


class QwenEdit(Family):
    """Takes one picture, which both the text encoder and the transformer see."""

    title = "Qwen-Image-Edit"

    def prepare(self) -> None:
        """Pass the text encoder the image positions that the pipeline omits."""
        self.pipe.text_encoder.register_forward_pre_hook(mark_image_tokens, with_kwargs=True)

    def encode(self, inputs: Inputs) -> Arguments:
        """Encode prompt and negative prompt, each together with the pictures."""
        seen = self._seen(inputs)
        embeds, mask = self.pipe.encode_prompt(inputs.instruction, image=seen)
        encoded = {"prompt_embeds": embeds, "prompt_embeds_mask": mask}
        if self._guidance > 1:
            negative = self.settings.negative_prompt
            embeds, mask = self.pipe.encode_prompt(negative, image=seen)
            encoded |= {"negative_prompt_embeds": embeds, "negative_prompt_embeds_mask": mask}
        return encoded

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """Add the guidance under Qwen's name for it."""
        shared = super().arguments(encoded, inputs, count)
        return {**shared, "true_cfg_scale": self._guidance}

    def noise_shape(self, width: int, height: int) -> Sequence[int]:
        """Frames, channels, rows and columns of the latents."""
        grid = self.latent_grid
        return (1, int(self.pipe.latent_channels), height // grid, width // grid)

    def pack(self, noise: Any) -> Any:
        """Turn the latents into a sequence of 2x2 patches."""
        count, _, channels, rows, columns = noise.shape
        return self.pipe._pack_latents(noise, count, channels, rows, columns)

    @property
    def _guidance(self) -> float:
        return float(self.call_settings.get("true_cfg_scale", self.settings.guidance))

    @property
    def _module(self) -> Any:
        return sys.modules[type(self.pipe).__module__]

    def _seen(self, inputs: Inputs) -> Any:
        return self._resized(inputs.source, CONDITION_AREA)

    def _resized(self, image: Image.Image, area: int) -> Any:
        # The pipeline's own rule, so that the text encoder sees the same as in a plain call.
        width, height, *_ = self._module.calculate_dimensions(area, image.width / image.height)
        return self.pipe.image_processor.resize(image, height, width)


class QwenEditPlus(QwenEdit):
    """Takes a source and optionally a reference."""

    title = "Qwen-Image-Edit-Plus"

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """Add all pictures."""
        return {**super().arguments(encoded, inputs, count), "image": inputs.pictures}

    def _seen(self, inputs: Inputs) -> Any:
        area = self._module.CONDITION_IMAGE_SIZE
        return [self._resized(picture, area) for picture in inputs.pictures]


def mark_image_tokens(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pass the `mm_token_type_ids` that transformers 5 expects (diffusers issue 14194).

    Without them the text encoder silently treats an image's tokens as a sequence, not as a grid.
    """
    tokens = kwargs.get("input_ids")
    has_image = kwargs.get("image_grid_thw") is not None
    if has_image and tokens is not None and kwargs.get("mm_token_type_ids") is None:
        marks = (tokens == module.config.image_token_id).int()
        kwargs = {**kwargs, "mm_token_type_ids": marks}
    return args, kwargs
