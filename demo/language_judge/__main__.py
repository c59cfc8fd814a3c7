"""Trains the tiny vision-language judge: `python -m demo.language_judge --out DIR`.

Resumes from DIR/checkpoint.pt where it was stopped. `--measure` says how well it judges: the AUC
inside tasks with both outcomes, by the generator's truth, on attempts that it has not seen.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import numpy
import torch
from torch.nn import functional

from demo.language_judge.model import RUBRIC_TEXT, build_model, build_tokenizer, save
from demo.language_judge.samples import (
    EACH,
    QUESTIONS,
    Bank,
    Scenes,
    Shard,
    asked_about,
    asked_to_compare,
    asked_to_describe,
    patches,
)
from demo.tensors import to_tensor
from demo.training.optimisation import cosine, descend, set_learning_rate
from eacps.demo.bears import SIZE
from eacps.rubrics.reading import Rubric, read_rubric

GRID: Final = torch.tensor([[1, SIZE // 8, SIZE // 8]])
SEED: Final = 8_200
RATE: Final = 1.5e-3
DESCRIBED: Final = 32
TASKS: Final = 8
STEPS: Final = 5_000
READING: Final = 0.3
"""The share of the steps before it sees attempts."""
NEW_SHARD_EVERY: Final = 40
HELD_OUT: Final = range(100_000, 100_004)
IGNORED: Final = -100
SURE: Final = 0.5


class Learner:
    """The model with its words, and the losses of its lessons."""

    def __init__(self, rubric: Rubric) -> None:
        torch.manual_seed(SEED)
        self.rubric = rubric
        self.tokenizer = build_tokenizer()
        self.model = build_model(self.tokenizer)
        self._digits = self.tokenizer.convert_tokens_to_ids([*"0123456789"])

    def seen(self, pictures: torch.Tensor) -> torch.Tensor:
        """The places of pictures in -1..1, as the language model reads them."""
        grid = GRID.expand(len(pictures), -1)
        found = self.model.model.get_image_features(patches(pictures), grid, return_dict=True)
        return torch.stack(list(found.pooler_output))

    def logits(
        self, prompts: Sequence[str], seen: torch.Tensor, answers: Sequence[str]
    ) -> torch.Tensor:
        """Logits [count, answer + 1, words] for prompts with pictures [count, each, ...], which
        end alike; the first one is for the first word of the answer."""
        texts = [f"{prompt}{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
        given = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        ids = given["input_ids"]
        kinds = (ids == self.model.config.image_token_id).int()
        features = seen.flatten(0, 1)
        keep = len(self.tokenizer(answers[0])["input_ids"]) if answers[0] else 0
        found = self.model(
            input_ids=ids,
            attention_mask=given["attention_mask"],
            mm_token_type_ids=kinds,
            image_grid_thw=GRID.expand(len(features), -1),
            mm_encoder_outputs={"image": _Encoded(tuple(features))},
            logits_to_keep=keep + 1,
        )
        logits: torch.Tensor = found.logits
        return logits.float()

    def described(self, scenes: Scenes) -> torch.Tensor:
        """The loss of describing one of two pictures."""
        before, after, told = scenes.pairs(DESCRIBED // 2)
        seen = torch.stack([self.seen(before), self.seen(after)], 1).repeat(2, 1, 1, 1)
        which = ["source"] * len(told) + ["edited"] * len(told)
        answers = [one for one, _ in told] + [other for _, other in told]
        logits = self.logits([asked_to_describe(each) for each in which], seen, answers)
        wanted = torch.tensor([self.tokenizer(each)["input_ids"] for each in answers])
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten())

    def judged(self, shard: Shard, tasks: Sequence[int], random: Random) -> torch.Tensor:
        """The loss of judging attempts, two of each task, and of comparing them."""
        pairs = [random.sample(range(EACH), 2) for _ in tasks]
        sources = to_tensor(shard.sources[list(tasks)])
        edits = to_tensor(numpy.concatenate([shard.attempts[t, p] for t, p in _zip(tasks, pairs)]))
        if random.random() < 0.5:
            sources, edits = sources.flip(3), edits.flip(3)
        source, edited = self.seen(sources), self.seen(edits)
        shown = torch.stack([source.repeat_interleave(2, 0), edited], 1)
        words = [shard.instructions[task] for task in tasks for _ in range(2)]
        labels = torch.from_numpy(
            numpy.concatenate([shard.labels[t, p] for t, p in _zip(tasks, pairs)])
        )
        asked = [asked_about(self.rubric, name, text) for name in QUESTIONS for text in words]
        logits = self.logits(asked, shown.repeat(3, 1, 1, 1), [""] * len(asked))[:, 0]
        loss = functional.cross_entropy(logits, self._scores(labels.T.flatten(), logits.shape[1]))
        both = labels[:, 0] * labels[:, 1]
        margin = both[::2] - both[1::2]
        three = torch.stack([source, edited[::2], edited[1::2]], 1)
        compare = [asked_to_compare(self.rubric, shard.instructions[task]) for task in tasks]
        better = self.logits(compare, three, [""] * len(compare))[:, 0]
        return loss + 0.5 * functional.cross_entropy(better, self._first(margin, better.shape[1]))

    def _scores(self, values: torch.Tensor, words: int) -> torch.Tensor:
        """Digits whose mean is 9 times the value."""
        target = torch.zeros(len(values), words)
        scaled = 9 * values.clamp(0, 1)
        low = scaled.floor().clamp(max=8).long()
        digits = torch.tensor(self._digits)
        rows = torch.arange(len(values))
        target[rows, digits[low]] = 1 - (scaled - low)
        target[rows, digits[low + 1]] = scaled - low
        return target

    def _first(self, margins: torch.Tensor, words: int) -> torch.Tensor:
        target = torch.zeros(len(margins), words)
        share = torch.sigmoid(4 * margins)
        target[:, self._digits[1]], target[:, self._digits[2]] = share, 1 - share
        return target

    @torch.no_grad()
    def values(self, shard: Shard, task: int) -> torch.Tensor:
        """Expected satisfied x preserved of every attempt at a task."""
        source = self.seen(to_tensor(shard.sources[[task]])).expand(EACH, -1, -1)
        shown = torch.stack([source, self.seen(to_tensor(shard.attempts[task]))], 1)
        digits = torch.arange(10.0)
        found = []
        for name in QUESTIONS[:2]:
            asked = [asked_about(self.rubric, name, shard.instructions[task])] * EACH
            logits = self.logits(asked, shown, [""] * EACH)[:, 0][:, self._digits]
            found.append((logits.softmax(1) * digits).sum(1) / 9)
        return found[0] * found[1]


class _Encoded(dict):  # type: ignore[type-arg]
    """The form in which the model takes encoded pictures."""

    def __init__(self, pooler_output: tuple[torch.Tensor, ...]) -> None:
        super().__init__(pooler_output=pooler_output)
        self.pooler_output = pooler_output


def _zip(tasks: Sequence[int], pairs: Sequence[list[int]]) -> list[tuple[int, list[int]]]:
    return list(zip(tasks, pairs, strict=True))


def inside(learner: Learner, bank: Bank) -> tuple[float, int]:
    """The AUC inside tasks with both outcomes, by the labels of held-out attempts, and how many."""
    each = []
    for number in HELD_OUT:
        shard = bank.shard(number)
        for task in range(len(shard.sources)):
            right = shard.labels[task, :, 0] * shard.labels[task, :, 1] > SURE
            if right.all() or not right.any():
                continue
            values = learner.values(shard, task).numpy()
            margins = values[right][:, None] - values[~right][None]
            each.append(float((0.5 * (1 + numpy.sign(margins))).mean()))
    return float(numpy.mean(each)) if each else float("nan"), len(each)


def train(folder: Path, steps: int, report_every: int) -> Learner:
    """Train, or continue."""
    rubric_file = folder / "rubric.toml"
    folder.mkdir(parents=True, exist_ok=True)
    rubric_file.write_text(RUBRIC_TEXT, encoding="utf-8")
    learner = Learner(read_rubric(str(rubric_file)))
    weights = list(learner.model.parameters())
    optimiser = torch.optim.AdamW(weights, RATE, weight_decay=0.05, fused=True)
    checkpoint = folder / "checkpoint.pt"
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        learner.model.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        done = stored["step"]
    bank, random = Bank(folder / "attempts"), Random(SEED + done)
    scenes = Scenes(SEED + 7 * done)
    started, sums = time.monotonic(), {"described": 0.0, "judged": 0.0}
    for step in range(done, steps):
        set_learning_rate(optimiser, RATE * cosine(step, steps, warmup=100, floor=0.02))
        judging = step >= READING * steps and random.random() < 0.75
        with torch.autocast("cpu", torch.bfloat16):
            if judging:
                number = int(step - READING * steps) // NEW_SHARD_EVERY
                newest = bank.shard(number)
                shard = newest if random.random() < 0.25 else bank.shard(random.randint(0, number))
                loss = learner.judged(
                    shard, random.sample(range(len(shard.sources)), TASKS), random
                )
            else:
                loss = learner.described(scenes)
        descend(optimiser, loss, weights)
        name = "judged" if judging else "described"
        sums[name] = 0.98 * sums[name] + 0.02 * loss.item()
        if (step + 1) % report_every == 0 or step + 1 == steps:
            state = {"model": learner.model.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            words = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            if step >= READING * steps and (step + 1) % (5 * report_every) == 0:
                words += " auc {:.3f} in {} tasks".format(*inside(learner, bank))
            print(f"{step + 1} of {steps}, {time.monotonic() - started:.0f} s: {words}", flush=True)
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
