"""Trains the verifier, which judges whether edits are satisfied, preserved and intact."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from demo.training.evidence import EvidenceFolder, joined
from demo.training.optimisation import MovingAverage, Tick, cosine, descend, set_learning_rate
from demo.training.reader import HIDDEN as TRAIT_HIDDEN
from demo.training.reader import WIDTHS as TRAIT_WIDTHS
from demo.training.reader import load_reader
from demo.training.recipe import VerifierRecipe
from demo.training.tokenizer import CONTEXT, load_tokenizer, token_ids
from eacps.demo.bears import FIELD_SIZES, FIELDS, PARTS, SIZE
from eacps.demo.bears.language import JOINT, phrases
from eacps.demo.bears.scene import SLOTS, attributes_of
from eacps.demo.verifier.loading import TOKENIZER, save_verifier
from eacps.demo.verifier.network import InstructionReader, VerifierNetwork, VerifierShape

TEXT_WIDTH: Final = 64
CHANGE_WIDTHS: Final = (24, 32, 48)
HIDDEN: Final = 64
RENDER_SHARE: Final = 3 / 8
SINGLE_SHARE: Final = 0.4
WORDS: Final = "instructions.safetensors"


def shape(vocabulary: int) -> VerifierShape:
    """The configuration of the shipped verifier."""
    return VerifierShape(
        image_size=SIZE,
        vocabulary=vocabulary,
        context=CONTEXT,
        text_width=TEXT_WIDTH,
        traits=FIELD_SIZES,
        trait_widths=TRAIT_WIDTHS,
        trait_hidden=TRAIT_HIDDEN,
        change_widths=CHANGE_WIDTHS,
        hidden=HIDDEN,
    )


def train_instructions(
    recipe: VerifierRecipe, tokenizer: Any, folder: Path, tick: Tick
) -> dict[str, float]:
    """Learn from the grammar what a sentence requires and what it allows to change."""
    stage = recipe.instructions
    torch.manual_seed(stage.seed)
    network, random = InstructionReader(shape(len(tokenizer))), Random(stage.seed)
    optimiser = torch.optim.AdamW(network.parameters(), stage.learning_rate, fused=True)
    for step in range(stage.steps):
        rate = stage.learning_rate * cosine(step, stage.steps, warmup=50, floor=0.02)
        set_learning_rate(optimiser, rate)
        ids, truth = _sentences(stage.batch, tokenizer, random)
        logits = torch.cat(network(ids), 1)
        loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        descend(optimiser, loss.sum(1).mean(), network.parameters())
        tick()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / WORDS)
    return {"understood": _understood(network, tokenizer, recipe)}


@torch.no_grad()
def _understood(network: InstructionReader, tokenizer: Any, recipe: VerifierRecipe) -> float:
    ids, truth = _sentences(recipe.held_out, tokenizer, Random(recipe.held_out_seed))
    return ((torch.cat(network(ids), 1) > 0) == (truth > 0)).all(1).float().mean().item()


def _sentences(count: int, tokenizer: Any, random: Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of random instructions, and labels: requested values, and fields that may
    change."""
    truth = torch.zeros(count, sum(FIELD_SIZES) + len(FIELDS))
    texts = []
    for row in range(count):
        parts = random.sample(PARTS, 1 if random.random() < SINGLE_SHARE else 2)
        clauses = [random.choice(_clauses(part)) for part in parts]
        texts.append(JOINT.join(clauses))
        for part, clause in zip(parts, clauses, strict=True):
            for field, value in phrases()[clause].items():
                truth[row, sum(FIELD_SIZES[: FIELDS.index(field)]) + value] = 1
            for field in attributes_of(part):
                truth[row, sum(FIELD_SIZES) + FIELDS.index(field)] = 1
    return torch.from_numpy(token_ids(tokenizer, texts)).long(), truth


def _clauses(part: str) -> list[str]:
    field = f"{part}_kind" if part in SLOTS else part
    return [text for text, required in phrases().items() if field in required]


def train_verifier(
    recipe: VerifierRecipe, work: Path, words: Path, folder: Path, tick: Tick
) -> None:
    """Learn to judge by what both readers say and by how the pictures differ.

    The readers stay as they are: attempts are few, and would only be learnt by heart.
    """
    stage = recipe.verifier
    torch.manual_seed(stage.seed)
    network = VerifierNetwork(shape(len(load_tokenizer(words))))
    network.shown.load_state_dict(load_reader(work / "reader").state_dict())
    network.meant.load_state_dict(load_file(work / "instructions" / WORDS))
    network.to(memory_format=torch.channels_last)
    for reader in (network.shown, network.meant):
        reader.requires_grad_(False)
    tried = EvidenceFolder(work / "attempts", stage.seed)
    rendered = EvidenceFolder(work / "renders", stage.seed + 1)
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learning, stage.learning_rate, weight_decay=0.1, fused=True)
    average = MovingAverage(learning, decay=0.995)
    known = round(stage.batch * RENDER_SHARE)
    for step in range(stage.steps):
        rate = stage.learning_rate * cosine(step, stage.steps, warmup=50, floor=0.02)
        set_learning_rate(optimiser, rate)
        batch = joined([tried.draw(stage.batch - known), rendered.draw(known)])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch.source, batch.edited, batch.ids, batch.progress)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), batch.targets)
        descend(optimiser, loss, learning)
        average.update()
        tick()
    average.swap()
    save_verifier(network.eval(), folder)
    for name in (TOKENIZER, "tokenizer_config.json"):
        shutil.copy(words / name, folder)
