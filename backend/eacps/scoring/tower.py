"""An open_clip model that several scorers share."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from eacps.errors import ScoringError, first_line
from eacps.weights import verify_manifest

_FIRST_CHOICES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_STAGES = 5
_CACHE_SIZE = 2
_HINT = (
    "Set EACPS_CLIP to a folder with open_clip_config.json and open_clip_model.safetensors, or "
    "to name/pretrained such as ViT-B-32/laion2b_s34b_b79k."
)


@dataclass(frozen=True)
class Features:
    """The features of images: unit vectors [N, D] and the feature maps of stages [N, C, h, w]."""

    vectors: torch.Tensor
    stages: tuple[torch.Tensor, ...]

    def split(self, *sizes: int) -> list[Features]:
        """Split into parts with these numbers of images."""
        vectors = torch.split(self.vectors, list(sizes))
        stages = [torch.split(stage, list(sizes)) for stage in self.stages]
        return [
            Features(part, tuple(stage[index] for stage in stages))
            for index, part in enumerate(vectors)
        ]


class ClipTower:
    """A loaded open_clip model on a device."""

    def __init__(self, model: Any, preprocess: Any, tokenizer: Any, device: str) -> None:
        self._model = model
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._device = device
        self._indices = _stage_indices(model.visual)
        self._cache: deque[tuple[tuple[Image.Image, ...], Features]] = deque(maxlen=_CACHE_SIZE)
        self._lock = threading.Lock()

    @property
    def has_stages(self) -> bool:
        """Whether this architecture exposes intermediate feature maps."""
        return hasattr(self._model.visual, "forward_intermediates")

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> Features:
        """The features of all images, in one forward pass. The last few results are cached."""
        with self._lock:
            for known, features in self._cache:
                if _same(known, images):
                    return features
            batch = torch.stack([self._preprocess(image) for image in images]).to(self._device)
            features = self._forward(batch)
            self._cache.append((tuple(images), features))
            return features

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """The unit vectors of texts, [N, D]."""
        with self._lock:
            tokens = self._tokenizer(list(texts)).to(self._device)
            vectors: torch.Tensor = self._model.encode_text(tokens, normalize=True)
            return vectors.float()

    def _forward(self, batch: torch.Tensor) -> Features:
        if not self.has_stages:
            return Features(self._model.encode_image(batch, normalize=True).float(), ())
        seen = self._model.visual.forward_intermediates(batch, indices=self._indices)
        vectors = torch.nn.functional.normalize(seen["image_features"].float(), dim=-1)
        return Features(vectors, tuple(stage.float() for stage in seen["image_intermediates"]))


@lru_cache(maxsize=2)
def clip_tower(name: str, device: str) -> ClipTower:
    """Load the open_clip model of EACPS_CLIP, once per device and never with random weights."""
    import open_clip
    from transformers import dynamic_module_utils

    # transformers would ask on the terminal whether to run a model's own code; now it refuses.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    folder = Path(name).expanduser()
    if folder.is_dir():
        where, pretrained = _checked(folder), None
    else:
        where, pretrained = _named(name)
    try:
        with _quiet():
            # create_model would only warn and go on with random weights; this raises instead.
            # Squash images to the input size, because cropping would hide edits at the edges.
            model, preprocess = open_clip.create_model_from_pretrained(
                where, pretrained=pretrained, device=device, image_resize_mode="squash"
            )
            tokenizer = open_clip.get_tokenizer(where)
    except Exception as error:
        raise ScoringError(
            f"The CLIP model of EACPS_CLIP, {name!r}, could not be loaded: {first_line(error)}",
            hint=_HINT,
        ) from error
    return ClipTower(model.eval(), preprocess, tokenizer, device)


def _checked(folder: Path) -> str:
    verify_manifest(folder)
    for needed, kind in (("open_clip_config.json", "config"), ("*.safetensors", "weights")):
        if not list(folder.glob(needed)):
            raise ScoringError(
                f"The folder of EACPS_CLIP, {str(folder)!r}, has no {kind} ({needed}).",
                hint=_HINT,
            )
    unsafe = sorted(file.name for kind in ("*.bin", "*.pth") for file in folder.glob(kind))
    if unsafe and not any((folder / name).is_file() for name in _FIRST_CHOICES):
        # open_clip prefers some of these names to other .safetensors files.
        raise ScoringError(
            f"The folder of EACPS_CLIP, {str(folder)!r}, has weights in a format that can execute "
            f"code when loaded ({', '.join(unsafe)}).",
            hint="Delete them, or name the .safetensors file open_clip_model.safetensors.",
        )
    return f"local-dir:{folder}"


def _named(name: str) -> tuple[str, str]:
    model, slash, pretrained = name.rpartition("/")
    if not slash or not model or model.startswith((".", "~")) or Path(name).is_absolute():
        raise ScoringError(f"EACPS_CLIP names a folder that does not exist: {name!r}.", hint=_HINT)
    return model, pretrained


def _stage_indices(visual: Any) -> list[int] | None:
    blocks = len(getattr(getattr(visual, "transformer", None), "resblocks", ()))
    if blocks <= _STAGES:
        return None
    return [round((index + 1) * blocks / _STAGES) - 1 for index in range(_STAGES)]


def _same(known: Sequence[Image.Image], images: Sequence[Image.Image]) -> bool:
    return len(known) == len(images) and all(
        one is other for one, other in zip(known, images, strict=True)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    # open_clip logs to the root logger while it loads a model.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
