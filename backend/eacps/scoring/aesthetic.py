"""How pleasing a picture is, by a linear layer on CLIP's vectors, such as LAION's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from eacps.domain import EditTask
from eacps.errors import SettingsError, first_line
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.scoring.protocol import Images, Scores
from eacps.weights import existing_path

if TYPE_CHECKING:
    import torch

    from eacps.scoring.tower import ClipTower

_HINT = 'Set EACPS_PLUGIN_OPTIONS to {"aesthetic": {"head": "FILE.safetensors"}} (docs/scoring.md).'


class AestheticScorer:
    """`aesthetic`: from about 1 to 10, by a head that somebody trained on people's ratings."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {"aesthetic": MetricRange(worst=1, best=10)}

    class Options(BaseModel):
        """What EACPS_PLUGIN_OPTIONS may say under `aesthetic`."""

        model_config = ConfigDict(extra="forbid")

        head: str = Field("", description="a safetensors file with `weight` and `bias`")
        clip: str = Field("", description="the CLIP that the head was trained on; else EACPS_CLIP")

    def __init__(self, tower: ClipTower, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._tower = tower
        self._weight = weight
        self._bias = bias

    @classmethod
    def load(cls, context: Context) -> AestheticScorer:
        """Load the head of the options, and its CLIP."""
        from safetensors.torch import load_file

        from eacps.scoring.tower import clip_tower

        options = context.options if isinstance(context.options, cls.Options) else cls.Options()
        path = existing_path(options.head) if options.head else None
        if path is None or not path.is_file():
            raise SettingsError(f"The metric aesthetic has no head: {options.head!r}.", hint=_HINT)
        try:
            stored = load_file(path, device=context.device)
            weight, bias = stored["weight"].float().flatten(), stored["bias"].float().flatten()
        except Exception as error:
            raise SettingsError(
                f"{path} is no aesthetic head: {first_line(error)}.", hint=_HINT
            ) from None
        tower = clip_tower(options.clip or context.settings.clip, context.device)
        return cls(tower, weight, bias)

    def score(
        self, _task: EditTask, _images: TaskImages, edited: Images, _progress: Sequence[float] = ()
    ) -> Sequence[Scores]:
        """One value per edited image."""
        if not edited:
            return []
        vectors = self._tower.features(edited).vectors.float()
        if vectors.shape[1] != len(self._weight):
            raise SettingsError(
                f"The aesthetic head reads vectors of {len(self._weight)} numbers, and its CLIP "
                f"makes {vectors.shape[1]}.",
                hint='Name the CLIP that it was trained on: {"aesthetic": {"clip": …}}.',
            )
        values = (vectors @ self._weight + self._bias).tolist()
        return [{"aesthetic": value} for value in values]
