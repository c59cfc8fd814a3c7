"""The base class of editor families: everything that differs between edit pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image

from eacps.settings import Settings

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """The inputs of an edit, with pictures at working size."""

    instruction: str
    source: Image.Image
    reference: Image.Image | None = None

    @property
    def pictures(self) -> list[Image.Image]:
        """The source, then the reference if there is one."""
        return [self.source] if self.reference is None else [self.source, self.reference]


class Family(ABC):
    """One family of diffusers pipelines, wrapped around a loaded one.

    A new family is a subclass in its own file and one line in `registry.py`, or an entry point in
    the group `eacps.editors` that is named after the pipeline class.
    """

    title: ClassVar[str]
    """The name that cards show."""
    denoiser: ClassVar[str] = "transformer"
    min_short_side: ClassVar[int] = 0
    max_aspect_ratio: ClassVar[float] = 100.0

    def __init__(self, pipe: Any, settings: Settings) -> None:
        self.pipe = pipe
        self.settings = settings

    def prepare(self) -> None:  # noqa: B027 - most pipelines need no change
        """Change the loaded pipeline, e.g. work around a bug; called once after loading."""

    @property
    def multiple(self) -> int:
        """Both sides of the working size are multiples of this."""
        return int(self.pipe.vae_scale_factor) * 2

    @property
    def native_side(self) -> int | None:
        """The longer side that the pipeline was trained for, if it supports no other."""
        return None

    @abstractmethod
    def encode(self, inputs: Inputs) -> Arguments:
        """Encode the instruction, and whatever else is needed once per task, as call arguments."""

    def arguments(self, encoded: Arguments, inputs: Inputs, count: int) -> Arguments:
        """The arguments of one call that renders `count` images."""
        width, height = inputs.source.size
        return {
            **encoded,
            "image": inputs.source,
            "height": height,
            "width": width,
            "num_images_per_prompt": count,
        }

    @abstractmethod
    def noise_shape(self, width: int, height: int) -> Sequence[int]:
        """The shape of one image's starting noise, before packing."""

    def pack(self, noise: Any) -> Any:
        """Bring a stack of noises into the layout that the pipeline's `latents` expects."""
        return noise

    def repack(self, latents: Any, width: int, height: int) -> Any:  # noqa: ARG002
        """Bring latents from inside the denoising loop into the layout that `latents` expects."""
        return latents

    def unread_tokens(self, text: str) -> int:  # noqa: ARG002
        """How many tokens at the end of a text the text encoder would cut off."""
        return 0

    @property
    def call_settings(self) -> Mapping[str, Any]:
        """Extra arguments of every pipeline call, from EACPS_PIPELINE_ARGS."""
        return self.settings.pipeline_args

    @property
    def latent_grid(self) -> int:
        """BatchOutput per latent along one side."""
        return int(self.pipe.vae_scale_factor)
