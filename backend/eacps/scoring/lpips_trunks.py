"""LPIPS itself: the learned weights of the lpips package on a trunk from torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from eacps.domain import EditTask
from eacps.errors import ScoringError
from eacps.files import file_hash
from eacps.images import TaskImages, fit_within
from eacps.recent import Recent
from eacps.scoring.spatial import CACHED_TASKS, hide_masked, spatial_mean

TRUNKS: Final[dict[str, tuple[str, str]]] = {
    "alex": ("alexnet", "AlexNet_Weights"),
    "vgg": ("vgg16", "VGG16_Weights"),
    "squeeze": ("squeezenet1_1", "SqueezeNet1_1_Weights"),
}
MAX_SIDE = 512
"""Larger images are shrunk to this, because memory grows with the number of pixels."""


class TrunkDistance:
    """LPIPS; needs the published weights of the trunk in torch's hub cache."""

    def __init__(self, trunk: str, device: str) -> None:
        require_weights(trunk)
        self._model = _build(trunk).to(device)
        self._device = device
        self._sources = Recent[str, torch.Tensor](CACHED_TASKS)

    @torch.inference_mode()
    def __call__(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        mask: Image.Image | None,
    ) -> list[float]:
        """One distance per edited image."""
        source = self._sources.get_or_make(
            task.key, lambda: self._tensor(images, [images.source], mask)
        )
        target = self._tensor(images, edited, mask)
        self._model.spatial = mask is not None
        difference = self._model(source.expand_as(target), target)
        distances: list[float] = spatial_mean(difference[:, 0], mask).tolist()
        return distances

    def _tensor(
        self, images: TaskImages, edited: Sequence[Image.Image], mask: Image.Image | None
    ) -> torch.Tensor:
        from torchvision.transforms.functional import pil_to_tensor

        fitted = [
            fit_within(image.resize(images.source.size), MAX_SIDE)
            for image in hide_masked(images, edited, mask)
        ]
        stacked = torch.stack([pil_to_tensor(image) for image in fitted])
        return stacked.to(self._device, torch.float32) / 127.5 - 1


def require_weights(trunk: str) -> None:
    """Raise ScoringError unless the trunk's published weights are in torch's hub cache."""
    file = weights_file(trunk)
    network, _ = TRUNKS[trunk]
    fetch = (
        f'Fetch it once with: python -c "import torchvision; torchvision.models.{network}'
        "(weights='IMAGENET1K_V1')\". Or set EACPS_LPIPS_TRUNK to clip, which needs no download."
    )
    if not file.is_file():
        raise ScoringError(
            f"EACPS_LPIPS_TRUNK is {trunk}, but its weights are missing: {file}.", hint=fetch
        )
    # torchvision puts the start of the file's hash into its name.
    expected = file.stem.rpartition("-")[2]
    if not file_hash(file).startswith(expected):
        raise ScoringError(
            f"The weights of EACPS_LPIPS_TRUNK {trunk} are damaged: {file}.",
            hint=f"Delete that file. {fetch}",
        )


def weights_file(trunk: str) -> Path:
    """Where torchvision stores the trunk's weights."""
    import torchvision

    _, weights = TRUNKS[trunk]
    url: str = getattr(torchvision.models, weights).IMAGENET1K_V1.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _build(trunk: str) -> Any:
    import lpips

    model = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    # Load the trunk here, because the package would allow pickle.
    weights = torch.load(weights_file(trunk), map_location="cpu", weights_only=True)
    network, _ = TRUNKS[trunk]
    _fill(model.net, weights, network)
    return model.eval()


def _fill(trunk: Any, weights: dict[str, torch.Tensor], network: str) -> None:
    # lpips splits the network's `features` into slices and keeps the layer numbers as names.
    layers = {name.removeprefix("features."): value for name, value in weights.items()}
    for part_name, part in trunk.named_children():
        own = {name: layers[name] for name in part.state_dict() if name in layers}
        if own.keys() != part.state_dict().keys():
            raise ScoringError(f"The weights of {network} do not fit LPIPS's {part_name}.")
        part.load_state_dict(own)
