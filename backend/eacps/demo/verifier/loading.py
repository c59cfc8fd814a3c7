"""Loads a verifier's config, weights and tokenizer, which are untrusted files."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from eacps.errors import ScoringError, first_line
from eacps.weights import verify_manifest

if TYPE_CHECKING:
    import torch

    from eacps.demo.verifier.network import VerifierNetwork, VerifierShape

FORMAT: Final = "eacps-verifier-1"
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
UNKNOWN_PROGRESS: Final = -1.0
_HINT: Final = f"Set EACPS_VERIFIER to a folder with {CONFIG}, {WEIGHTS} and {TOKENIZER}."


class LoadedVerifier:
    """A verifier's network and tokenizer on a device."""

    def __init__(self, network: VerifierNetwork, tokenizer: Any, device: str) -> None:
        self._network = network.to(device)
        self._tokenizer = tokenizer
        self._device = device
        self._lock = threading.Lock()

    def probabilities(
        self,
        source: Image.Image,
        edited: Sequence[Image.Image],
        instruction: str,
        progress: Sequence[float] = (),
    ) -> list[list[float]]:
        """The probabilities of satisfied, preserved and intact per edit; `progress` is empty if
        it is unknown."""
        import torch

        shape, count = self._network.shape, len(edited)
        with self._lock:  # Padding changes the state of a fast tokenizer, which is not thread-safe.
            row = self._tokenizer(
                instruction, padding="max_length", max_length=shape.context, truncation=True
            )
        ids = torch.tensor([row["input_ids"]]).expand(count, -1)
        size = shape.image_size
        before = _pixels([source], size).expand(count, -1, -1, -1)
        done = torch.tensor([*progress] or [UNKNOWN_PROGRESS] * count, dtype=torch.float32)
        inputs = [each.to(self._device) for each in (before, _pixels(edited, size), ids, done)]
        with torch.inference_mode():
            rows: list[list[float]] = self._network(*inputs).float().sigmoid().tolist()
        return rows


@lru_cache(maxsize=2)
def loaded_verifier(name: str, device: str) -> LoadedVerifier:
    """Load the verifier of EACPS_VERIFIER, once per device."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ScoringError(
            f"EACPS_VERIFIER names a folder that does not exist: {name!r}.", hint=_HINT
        )
    verify_manifest(folder)
    for needed in (CONFIG, WEIGHTS, TOKENIZER):
        if not (folder / needed).is_file():
            raise ScoringError(
                f"The folder of EACPS_VERIFIER, {str(folder)!r}, has no {needed}.", hint=_HINT
            )
    network = _network(folder)
    return LoadedVerifier(network, _tokenizer(folder, network.shape.vocabulary), device)


def save_verifier(network: VerifierNetwork, folder: Path) -> None:
    """Write the config, and the weights in half precision."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    config = {"format": FORMAT, "network": network.shape.as_json()}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _network(folder: Path) -> VerifierNetwork:
    from safetensors.torch import load_file

    from eacps.demo.verifier.network import VerifierNetwork

    network = VerifierNetwork(_shape(folder))
    try:
        state = load_file(folder / WEIGHTS)
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except Exception as error:  # safetensors and torch each have their own
        raise ScoringError(
            f"{folder / WEIGHTS} are not the weights of this verifier: {first_line(error)}",
            hint=_HINT,
        ) from error
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise ScoringError(f"{folder / WEIGHTS} contain numbers that are not finite.", hint=_HINT)
    return network.eval()


def _shape(folder: Path) -> VerifierShape:
    from eacps.demo.verifier.network import VerifierShape

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        written, network = config["format"], config["network"]
        shape = VerifierShape.parse(network)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ScoringError(
            f"{folder / CONFIG} does not describe a verifier: {first_line(error)}", hint=_HINT
        ) from error
    if written != FORMAT:
        raise ScoringError(
            f"{folder / CONFIG} is of format {written!r}; this version reads {FORMAT!r}.",
            hint=_HINT,
        )
    return shape


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the tokenizer library raises on a broken file
        raise ScoringError(
            f"{folder / TOKENIZER} is not a tokenizer: {first_line(error)}", hint=_HINT
        ) from error
    if len(tokenizer) > vocabulary or tokenizer.pad_token_id is None:
        raise ScoringError(
            f"{folder / TOKENIZER} is not this verifier's: it has {len(tokenizer)} tokens, the "
            f"network knows {vocabulary}, and its padding token is {tokenizer.pad_token!r}.",
            hint=_HINT,
        )
    return tokenizer


def _pixels(images: Sequence[Image.Image], size: int) -> torch.Tensor:
    """Images resized to the network's size, as [N, 3, size, size] in -1..1."""
    import numpy
    import torch

    arrays = [numpy.asarray(_squashed(image, size), numpy.float32) for image in images]
    return torch.from_numpy(numpy.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1


def _squashed(image: Image.Image, size: int) -> Image.Image:
    # Shrinking with a box filter restores an enlarged small picture.
    larger = min(image.size) >= size
    resample = Image.Resampling.BOX if larger else Image.Resampling.BICUBIC
    return image.convert("RGB").resize((size, size), resample)
