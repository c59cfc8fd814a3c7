"""The scorer: a small open_clip CLIP that learns which renders satisfy which instructions."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray
from torch.nn import functional

from demo.tensors import to_tensor
from demo.training.augmentation import ruined, softened
from demo.training.autoencoder import Autoencoder
from demo.training.claims import claim, satisfied
from demo.training.data import Labels, scenes
from demo.training.optimisation import Tick, cosine, descend, set_learning_rate
from demo.training.recipe import Recipe, Stage
from demo.training.tokenizer import CONTEXT, token_ids
from eacps.demo.bears import FIELD_SIZES, SIZE

EMBEDDING: Final = 128
HIGHEST_SCALE: Final = math.log(60)
ATTRIBUTE_WEIGHT: Final = 0.15


def model_config(vocabulary: int) -> dict[str, Any]:
    """The `model_cfg` of open_clip; `hf_tokenizer_name` makes it read the folder's tokenizer."""
    return {
        "embed_dim": EMBEDDING,
        "init_logit_scale": round(math.log(10), 6),
        "init_logit_bias": -3.0,
        "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": 96,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "local",
        },
    }


def write_config(vocabulary: int, folder: Path) -> None:
    """Write the file that makes `local-dir:` load the folder."""
    half = [0.5, 0.5, 0.5]
    preprocess = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config(vocabulary), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures, instructions, which picture satisfies which, and the pictures' attributes."""

    pictures: torch.Tensor
    ids: torch.Tensor
    satisfied: torch.Tensor
    attributes: torch.Tensor
    intact: torch.Tensor


class Examples:
    """Draws batches of fresh renders and claims."""

    def __init__(self, tokenizer: Any, autoencoder: Autoencoder | None, seed: int) -> None:
        self._tokenizer, self._autoencoder = tokenizer, autoencoder
        self._random, self._generator = Random(seed), torch.Generator().manual_seed(seed)

    def draw(self, size: int) -> Batch:
        """One batch; damaged like an editor's output unless there is no autoencoder."""
        pictures, labels = scenes(size, self._random)
        claims = [claim(row, self._random) for row in labels.tolist()]
        truth = numpy.stack([satisfied(labels, each) for each in claims], 1)
        intact = numpy.ones(size, numpy.bool_)
        views = to_tensor(pictures)
        if self._autoencoder is not None:
            intact[: size // 8] = False
            views = self._damaged(self._autoencoder, views)
        texts = [each.text for each in claims]
        return self._batch(views, texts, truth & intact[:, None], labels, intact)

    def _damaged(self, autoencoder: Autoencoder, pictures: torch.Tensor) -> torch.Tensor:
        decode = autoencoder.noisy if self._random.random() < 0.5 else None
        views = softened(pictures, self._generator, decode)
        lost = len(views) // 8
        return torch.cat([ruined(views[:lost], self._generator), views[lost:]])

    def _batch(
        self,
        views: torch.Tensor,
        texts: list[str],
        truth: NDArray[numpy.bool_],
        labels: Labels,
        intact: NDArray[numpy.bool_],
    ) -> Batch:
        return Batch(
            pictures=views.contiguous(memory_format=torch.channels_last),
            ids=torch.from_numpy(token_ids(self._tokenizer, texts)).long(),
            satisfied=torch.from_numpy(truth).float(),
            attributes=torch.from_numpy(labels),
            intact=torch.from_numpy(intact),
        )


def train_scorer(
    recipe: Recipe, autoencoder: Autoencoder, tokenizer: Any, folder: Path, tick: Tick
) -> dict[str, float]:
    """Train on claims in the first phase, and additionally on all attributes in the second."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(recipe.scorer_first.seed)
    model = CLIP(**model_config(len(tokenizer))).to(memory_format=torch.channels_last)
    for stage, weight in ((recipe.scorer_first, 0.0), (recipe.scorer_second, ATTRIBUTE_WEIGHT)):
        _phase(model, stage, Examples(tokenizer, autoencoder, stage.seed), weight, tick)
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    write_config(len(tokenizer), folder)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return {"auc": measured_auc(model, Examples(tokenizer, None, recipe.held_out_seed + 2))}


def _phase(model: Any, stage: Stage, examples: Examples, weight: float, tick: Tick) -> None:
    torch.manual_seed(stage.seed)
    reader = torch.nn.Linear(EMBEDDING, sum(FIELD_SIZES))
    parameters = [*model.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    for step in range(stage.steps):
        rate = stage.learning_rate * cosine(step, stage.steps, warmup=150, floor=0.01)
        set_learning_rate(optimiser, rate)
        batch = examples.draw(stage.batch)
        embedding = model.encode_image(batch.pictures)
        loss = _claim_loss(model, embedding, batch)
        if weight:
            loss = loss + weight * _attribute_loss(reader, embedding, batch)
        descend(optimiser, loss, parameters)
        with torch.no_grad():
            model.logit_scale.clamp_(0, HIGHEST_SCALE)
        tick()


def _claim_loss(model: Any, embedding: torch.Tensor, batch: Batch) -> torch.Tensor:
    words = model.encode_text(batch.ids, normalize=True)
    similarity = functional.normalize(embedding, dim=-1) @ words.T
    logits = model.logit_scale.exp() * similarity + model.logit_bias
    # True claims are rare, and a picture's own claim is the hard one.
    weight = 1 + 3 * batch.satisfied + 4 * torch.eye(len(logits))
    losses = functional.binary_cross_entropy_with_logits(logits, batch.satisfied, reduction="none")
    return (losses * weight).mean()


def _attribute_loss(reader: Any, embedding: torch.Tensor, batch: Batch) -> torch.Tensor:
    logits = reader(embedding)[batch.intact].split(list(FIELD_SIZES), 1)
    truth = batch.attributes[batch.intact].unbind(1)
    losses = [functional.cross_entropy(*pair) for pair in zip(logits, truth, strict=True)]
    return torch.stack(losses).sum()


@torch.no_grad()
def measured_auc(model: Any, examples: Examples, rounds: int = 8, size: int = 64) -> float:
    """How often a satisfied claim scores above another picture's near miss, on clean renders."""
    scores, truth = [], []
    for _ in range(rounds):
        batch = examples.draw(size)
        pictures = model.encode_image(batch.pictures, normalize=True)
        words = model.encode_text(batch.ids, normalize=True)
        scores.append((pictures * words).sum(1))
        truth.append(batch.satisfied.diagonal() > 0)
    score, right = torch.cat(scores), torch.cat(truth)
    return (score[right][:, None] > score[~right][None]).float().mean().item()
