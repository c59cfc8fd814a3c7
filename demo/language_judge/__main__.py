"""Trains the tiny vision-language judge: `python -m demo.language_judge --out DIR`.

Resumes from DIR/checkpoint.pt where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy
import torch
from torch.nn import functional

from demo.language_judge.model import MARKS, PLACES, build_model, build_tokenizer, save
from demo.language_judge.samples import EACH, Bank, Outcomes, Scenes, Shard, asked, patches
from demo.tensors import to_tensor
from demo.training.optimisation import cosine, descend, set_learning_rate
from eacps.demo.bears import SIZE

GRID: Final = torch.tensor([[1, SIZE // 8, SIZE // 8]])
SEED: Final = 8_200
RATE: Final = 8e-4
DRAWN: Final = 16
TRIED: Final = 8
WORDED: Final = 24
SHARDS: Final = 33
STEPS: Final = 6_000
WEIGHTS: Final = {"blind": 0.5, "words": 1.0, "marks": 2.0, "scores": 0.1}
HELD_OUT: Final = range(100_000, 100_004)
SURE: Final = 0.5
LONGEST: Final = 100
"""The most words of an answer."""


class Learner:
    """The model with its words, and the losses of its lessons."""

    def __init__(self) -> None:
        torch.manual_seed(SEED)
        self.tokenizer = build_tokenizer()
        self.model = build_model(self.tokenizer)
        self.marks = self.tokenizer.convert_tokens_to_ids([f" {mark}" for mark in MARKS])
        self.digits = self.tokenizer.convert_tokens_to_ids([*"0123456789"])

    def seen(self, pictures: torch.Tensor) -> torch.Tensor:
        """The places of pictures in -1..1, as the language model reads them."""
        grid = GRID.expand(len(pictures), -1)
        found = self.model.model.get_image_features(patches(pictures), grid, return_dict=True)
        return torch.stack(list(found.pooler_output))

    def logits(
        self, prompts: Sequence[str], seen: torch.Tensor | None, answers: Sequence[str]
    ) -> tuple[Any, Any]:
        """Logits for each token of the answers, which have the same number, and these tokens."""
        tokens = self.tokenizer(list(answers), return_tensors="pt")["input_ids"]
        texts = [f"{prompt}{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
        given = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        more: dict[str, Any] = {}
        if seen is not None:
            features = seen.flatten(0, 1)
            more = {
                "mm_token_type_ids": (given["input_ids"] == self.model.config.image_token_id).int(),
                "image_grid_thw": GRID.expand(len(features), -1),
                "mm_encoder_outputs": {"image": _Encoded(tuple(features))},
            }
        found = self.model(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            logits_to_keep=tokens.shape[1] + 1,
            **more,
        )
        return found.logits[:, :-1].float(), tokens

    def loss(
        self, prompts: Sequence[str], seen: torch.Tensor | None, answers: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The losses of the words, of the marks and of the scores of the answers."""
        logits, tokens = self.logits(prompts, seen, [f"{answer}<|im_end|>" for answer in answers])
        each = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
        scores = torch.isin(tokens, torch.tensor(self.digits)).flatten()
        marks = torch.isin(tokens, torch.tensor(self.marks)).flatten()
        return each[~scores & ~marks].mean(), each[marks].mean(), each[scores].mean()

    @torch.no_grad()
    def judged(self, shard: Shard, task: int) -> tuple[list[str], torch.Tensor]:
        """What it writes about every attempt at a task, and expected satisfied and preserved."""
        source = self.seen(to_tensor(shard.sources[[task]])).expand(EACH, -1, -1)
        shown = torch.stack([source, self.seen(to_tensor(shard.attempts[task]))], 1)
        prompts = [asked(shard.instructions[task])] * EACH
        texts, values = [""] * EACH, []
        for _ in range(LONGEST):
            # The logits after an answer that ends with anything are those of its next token.
            padded = [f"{text}<|im_end|>" for text in texts]
            following = self.logits(prompts, shown, padded)[0][:, -1]
            next_ones = following.argmax(1)
            if bool(torch.isin(next_ones, torch.tensor(self.digits)).all()):
                shares = following[:, self.digits].softmax(1)
                values.append((shares * torch.arange(10.0)).sum(1) / 9)
                if len(values) == 2:
                    break
            words = self.tokenizer.convert_ids_to_tokens(next_ones.tolist())
            texts = [text + word for text, word in zip(texts, words, strict=True)]
        while len(values) < 2:
            values.append(torch.full((EACH,), 0.5))
        return texts, torch.stack(values, 1)


class _Encoded(dict):  # type: ignore[type-arg]
    """The form in which the model takes encoded pictures."""

    def __init__(self, pooler_output: tuple[torch.Tensor, ...]) -> None:
        super().__init__(pooler_output=pooler_output)
        self.pooler_output = pooler_output


def inside(learner: Learner, bank: Bank) -> tuple[float, int]:
    """The AUC inside tasks with both outcomes, by the labels of held-out attempts, and how many."""
    each = []
    for number in HELD_OUT:
        shard = bank.shard(number)
        for task in range(len(shard.sources)):
            right = shard.labels[task, :, 0] * shard.labels[task, :, 1] > SURE
            if right.all() or not right.any():
                continue
            values = learner.judged(shard, task)[1].prod(1).numpy()
            margins = values[right][:, None] - values[~right][None]
            each.append(float((0.5 * (1 + numpy.sign(margins))).mean()))
    return float(numpy.mean(each)) if each else float("nan"), len(each)


class Lessons:
    """What it is taught in each step: drawn outcomes, and attempts of the pack's editors."""

    def __init__(self, learner: Learner, bank: Bank, seed: int) -> None:
        self._learner, self._bank = learner, bank
        self._random, self._scenes = Random(seed), Scenes(seed)

    def losses(self) -> dict[str, torch.Tensor]:
        """The losses of one step: of marks without pictures; of words and marks with them; and of
        scores, which follow from the marks."""
        told, said = self._scenes.words(WORDED)
        blind = self._learner.loss([asked(each, pictures=False) for each in told], None, said)
        drawn, tried = self._scenes.outcomes(DRAWN), self._attempts()
        sources = torch.cat([drawn.sources, tried.sources])
        edits = torch.cat([drawn.edits, tried.edits])
        seen = self._learner.seen(torch.cat([sources, edits])).reshape(2, len(edits), PLACES, -1)
        words, marks, scores = self._learner.loss(
            [asked(each) for each in (*drawn.instructions, *tried.instructions)],
            seen.transpose(0, 1),
            [*drawn.answers, *tried.answers],
        )
        return {"blind": blind[1], "words": words, "marks": marks, "scores": scores + blind[2]}

    def _attempts(self) -> Outcomes:
        shard = self._bank.explained(self._random.randrange(SHARDS))
        rows = self._random.sample(range(len(shard.sources)), TRIED)
        place = self._random.randrange(EACH)
        sources, edits = to_tensor(shard.sources[rows]), to_tensor(shard.attempts[rows, place])
        if self._random.random() < 0.5:
            sources, edits = sources.flip(3), edits.flip(3)
        instructions = [shard.instructions[row] for row in rows]
        return Outcomes(sources, edits, instructions, [shard.answers[row][place] for row in rows])


def train(folder: Path, steps: int, report_every: int) -> Learner:
    """Train, or continue."""
    folder.mkdir(parents=True, exist_ok=True)
    learner = Learner()
    weights = list(learner.model.parameters())
    optimiser = torch.optim.AdamW(weights, RATE, weight_decay=0.05, fused=True)
    checkpoint = folder / "checkpoint.pt"
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        learner.model.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        done = stored["step"]
    bank = Bank(folder / "attempts")
    lessons = Lessons(learner, bank, SEED + 7 * done)
    started, means = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0)
    for step in range(done, steps):
        set_learning_rate(optimiser, RATE * cosine(step, steps, warmup=100, floor=0.02))
        losses = lessons.losses()
        total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        descend(optimiser, total, weights)
        for name, loss in losses.items():
            means[name] += (loss.item() - means[name]) * (0.03 if step > done else 1.0)
        if (step + 1) % report_every == 0 or step + 1 == steps:
            state = {"model": learner.model.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            line = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            if (step + 1) % (5 * report_every) == 0:
                line += " auc {:.3f} in {} tasks".format(*inside(learner, bank))
            print(f"{step + 1} of {steps}, {time.monotonic() - started:.0f} s: {line}", flush=True)
    return learner


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; train, measure and save."""
    parser = argparse.ArgumentParser(prog="python -m demo.language_judge", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--report-every", type=int, default=50)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    learner = train(options.out, options.steps, options.report_every)
    save(learner.model.eval(), learner.tokenizer, options.out / "judge")
    value, count = inside(learner, Bank(options.out / "attempts"))
    sys.stdout.write(f"AUC inside {count} held-out tasks with both outcomes: {value:.3f}\n")


if __name__ == "__main__":
    main()
