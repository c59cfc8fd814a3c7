"""Scores, log-probabilities or pairs? `python -m benchmarks.ways_of_asking --out DIR`.

The demo's editor attempts held-out tasks eight times each, and the oracle says which attempts
succeed. A server on this machine judges them by the truth, blurred with noise until its AUC is 0.6,
0.7 or 0.85, and answers as language models do: with whole scores from 0 to 9, with the
probabilities of their digits, and, asked about two edits, with a liking for the first one. It is
asked by the real judges in each way. This says what the machinery makes of an answer, and not which
way suits large models: for the server the same noise is behind all three.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any, Final

import torch
from PIL import Image

from benchmarks.judge_server import serving
from benchmarks.judges import attempted
from demo.manifest import PACK
from demo.oracle import Oracle
from demo.training.autoencoder import Autoencoder
from eacps.demo.bears import SIZE
from eacps.demo.tasks import MEDIUM
from eacps.domain import digest
from eacps.offline.judging.datasets import Labelled
from eacps.offline.judging.measuring import Setup, measure
from eacps.settings import load_settings

AUCS: Final = (0.6, 0.7, 0.85)
ATTEMPTS: Final = 8
FIRST_IS_LIKED: Final = 0.5
"""Added to the edit that is shown first, in standard deviations of the noise."""
WAYS: Final[Mapping[str, tuple[str, int]]] = {
    "pointwise": ("pointwise", 0),
    "log-probabilities": ("logprobs", 0),
    "pairs, 8 of 28": ("pointwise", 8),
    "pairs, 16 of 28": ("pointwise", 16),
}


@dataclass
class BlurredTruth:
    """A judge whose opinion of a picture is the truth plus noise that belongs to the picture."""

    truth: Mapping[str, float]
    auc: float

    def opinion(self, picture: Image.Image) -> float:
        """In standard deviations of the noise."""
        name = named(picture)
        apart = math.sqrt(2) * NormalDist().inv_cdf(self.auc)
        return apart * (self.truth[name] - 0.5) + Random(f"{name} {self.auc}").gauss(0, 1)

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a chat completion."""
        content = body["messages"][-1]["content"]
        pictures = [
            _decoded(part["image_url"]["url"]) for part in content if part["type"] == "image_url"
        ]
        if "better" in content[-1]["text"]:
            first, second = map(self.opinion, pictures[1:3])
            better = "first" if first + FIRST_IS_LIKED > second else "second"
            return _message(json.dumps({"reason": "Seen.", "better": better}), None)
        score = 9 / (1 + math.exp(-self.opinion(pictures[1])))
        names = ("satisfied", "preserved", "intact")
        said = {name: {"reason": "Seen.", "score": round(score)} for name in names}
        return _message(json.dumps(said), score if body.get("logprobs") else None)


def _message(text: str, score: float | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice["message"] = {"role": "assistant", "content": text}
    if score is not None:
        choice["logprobs"] = {"content": [_token(each, score) for each in re.split(r"(\d)", text)]}
    return {
        "choices": [choice],
        "usage": {"prompt_tokens": 900, "completion_tokens": len(text) // 4},
    }


def _token(text: str, score: float) -> dict[str, Any]:
    shares = {text: 1.0}
    if text.isdigit():
        low = min(8, int(score))
        shares = {f"{low}": 1 - (score - low), f"{low + 1}": score - low}
    listed = [
        {"token": name, "logprob": math.log(max(share, 1e-9))} for name, share in shares.items()
    ]
    own = math.log(max(shares[text], 1e-9))
    return {"token": text, "logprob": own, "top_logprobs": listed}


def _decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))).convert("RGB")


def named(picture: Image.Image) -> str:
    """A name for the pixels."""
    return digest(picture.convert("RGB").tobytes().hex())


def _constant(image: Image.Image) -> Callable[[], Image.Image]:
    return lambda: image


def labelled(count: int, cache: Path) -> list[Labelled]:
    """Held-out tasks with their attempts, 1 for those that succeed."""
    oracle = Oracle.load(PACK / "oracle", Autoencoder(PACK / "editor" / "vae").shown)
    found = []
    made = attempted(MEDIUM, PACK, count, ATTEMPTS, cache)
    for number, (task, each) in enumerate(zip(MEDIUM.held_out(count, SIZE), made, strict=True)):
        images = [Image.fromarray(picture) for picture in each.finals]
        truth = [float(verdict.success) for verdict in oracle.judge(task, images)]
        loads = [_constant(image) for image in images]
        name = f"held-out-{number}"
        found.append(Labelled(name, task.instruction, _constant(task.source), loads, truth))
    return found


def measured(way: str, auc: float, items: Sequence[Labelled], out: Path) -> dict[str, Any]:
    """One judge, asked in one way."""
    how, pairs = WAYS[way]
    truth = {
        named(load()): share
        for item in items
        for load, share in zip(item.candidates, item.truth, strict=True)
    }
    place = out / re.sub(r"\W+", "-", f"{way} {auc}")
    with serving(BlurredTruth(truth, auc).answer) as address:
        options = {"openai": {"way": how}}
        settings = load_settings(data_dir=place / "data", plugin_options=options)
        setup = Setup(settings, metric="" if pairs else "satisfied", pairs=pairs)
        [(name, found)] = measure([f"openai:blurred@{address}"], items, place, setup).items()
    rows = [json.loads(line) for line in next(place.glob("*.jsonl")).read_text().splitlines()]
    return {
        "way": way,
        "truth": auc,
        "auc": found["auc"],
        "success": sum(map(_success, rows)) / len(rows),
        "ties": found["ties"]["mean"],
        "calls": found["calls"] / len(rows),
        "missing": found["missing"]["mean"],
        "name": name.partition("@")[0],
    }


def _success(row: Mapping[str, Any]) -> float:
    """The success of the chosen attempt; equal ones are drawn."""
    best = max(row["values"])
    chosen = [t for t, v in zip(row["truth"], row["values"], strict=True) if v == best]
    return float(sum(chosen) / len(chosen))


def main() -> None:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    items = labelled(options.tasks, options.out / "attempts")
    single = sum(sum(item.truth) for item in items) / (ATTEMPTS * len(items))
    ceiling = sum(max(item.truth) for item in items) / len(items)
    rows = [measured(way, auc, items, options.out) for auc in AUCS for way in WAYS]
    content = {"tasks": len(items), "single": single, "ceiling": ceiling, "rows": rows}
    (options.out / "ways.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"{len(items)} tasks; one attempt {single:.3f}, the best of 8 {ceiling:.3f}")
    print("| truth blurred to | asked | AUC inside a task | best of 8 succeeds | ties | calls |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        auc = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row["auc"])
        print(
            f"| {row['truth']} | {row['way']} | {auc} | {row['success']:.3f} | {row['ties']:.3f} "
            f"| {row['calls']:.1f} |"
        )


if __name__ == "__main__":
    main()
