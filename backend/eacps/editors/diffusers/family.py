"""What differs between families of edit pipelines; the rest is shared."""

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
    """What an edit starts from, the pictures at working size."""

    instruction: str
    source: Image.Image
    reference: Image.Image | None = None

    @property
    def pictures(self) -> list[Image.Image]:
        """Source first."""
        return [self.source] if self.reference is None else [self.source, self.reference]


class Family(ABC):
    """One family of diffusers pipelines, wrapped around a loaded one.

    A new family is one file with a subclass of this and one line in `registry.py` (or an entry
    point in the group `eacps.editors`, named like the pipeline's class).
    """

    title: ClassVar[str]
    denoiser: ClassVar[str] = "transformer"
    shorter_side: ClassVar[int] = 0
    widest: ClassVar[float] = 100.0

    def __init__(self, pipe: Any, settings: Settings) -> None:
        self.pipe = pipe
        self.settings = settings

    def mend(self) -> None:  # noqa: B027 - most families need no repair
        """Repair what this family needs repaired, once, after loading."""

    @property
    def multiple(self) -> int:
        """Both sides of a working image are multiples of this."""
        return int(self.pipe.vae_scale_factor) * 2

    @property
    def native_side(self) -> int | None:
        """The longer side that the pipeline was trained for, if it takes no other."""
        return None

    @abstractmethod
    def encode(self, inputs: Inputs) -> Arguments:
        """The instruction and whatever else is encoded once per task, as call arguments."""

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
        """A stack of noises in the layout that the pipeline's `latents` wants."""
        return noise

    def repack(self, latents: Any, width: int, height: int) -> Any:  # noqa: ARG002
        """Latents as the denoising loop has them, in the layout that `latents` wants."""
        return latents

    def unread_tokens(self, text: str) -> int:  # noqa: ARG002
        """How many tokens at a text's end are beyond what the text encoder reads."""
        return 0

    @property
    def call_settings(self) -> Mapping[str, Any]:
        """Further arguments of every call, from EACPS_PIPELINE_ARGS."""
        return self.settings.pipeline_args

    @property
    def latent_grid(self) -> int:
        """Pixels per latent along one side."""
        return int(self.pipe.vae_scale_factor)
