"""All hyperparameters of the training, for a full run and a smoke test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """The number of steps, the batch size and the seed of a network's training."""

    steps: int
    batch: int
    learning_rate: float
    seed: int

    def scaled(self, scale: float) -> Stage:
        """The same stage with more or fewer steps."""
        return replace(self, steps=max(2, round(self.steps * scale)))


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole run; the oracle's seeds differ from those of everything that it judges."""

    pairs: int = 120_000
    pairs_seed: int = 100
    held_out: int = 1_000
    held_out_seed: int = 900
    autoencoder: Stage = Stage(steps=6_000, batch=16, learning_rate=1.2e-3, seed=1)
    editor_first: Stage = Stage(steps=1_600, batch=64, learning_rate=1e-3, seed=2)
    editor_second: Stage = Stage(steps=2_600, batch=64, learning_rate=1e-3, seed=3)
    editor_early_step: int = 500
    scorer_first: Stage = Stage(steps=1_750, batch=96, learning_rate=1.5e-3, seed=4)
    scorer_second: Stage = Stage(steps=1_400, batch=64, learning_rate=1.5e-3, seed=5)
    oracle: Stage = Stage(steps=2_400, batch=64, learning_rate=2e-3, seed=777)

    @classmethod
    def full(cls, scale: float = 1.0) -> Recipe:
        """The real run, with every number of steps times `scale`."""
        full = cls()
        return replace(
            full,
            autoencoder=full.autoencoder.scaled(scale),
            editor_first=full.editor_first.scaled(scale),
            editor_second=full.editor_second.scaled(scale),
            editor_early_step=max(1, round(full.editor_early_step * scale)),
            scorer_first=full.scorer_first.scaled(scale),
            scorer_second=full.scorer_second.scaled(scale),
            oracle=full.oracle.scaled(scale),
        )

    @classmethod
    def quick(cls) -> Recipe:
        """A few steps of everything: proves that the chain works and trains nothing."""
        tiny = cls.full(scale=0.0)
        return replace(tiny, pairs=64, held_out=32)

    @property
    def digest(self) -> str:
        """A short name for this recipe; its intermediate files lie under it."""
        return short_name(asdict(self))


@dataclass(frozen=True, slots=True)
class VerifierRecipe:
    """The verifier's run: its seeds are none of the editor's, the scorer's or the oracle's."""

    reader: Stage = Stage(steps=3_000, batch=64, learning_rate=2e-3, seed=5_101)
    outcomes: int = 3
    """Of one task: attempts of an editor, or renders."""
    attempted_tasks: int = 1_920
    attempts_seed: int = 5_202_000
    rendered_tasks: int = 2_400
    rendered_seed: int = 5_303_000
    instructions: Stage = Stage(steps=1_500, batch=128, learning_rate=3e-3, seed=5_404)
    verifier: Stage = Stage(steps=1_000, batch=64, learning_rate=1.5e-3, seed=5_505)
    held_out: int = 1_000
    held_out_seed: int = 5_606

    @classmethod
    def full(cls, scale: float = 1.0) -> VerifierRecipe:
        """The real run, with every number of steps times `scale`."""
        full = cls()
        return replace(
            full,
            reader=full.reader.scaled(scale),
            instructions=full.instructions.scaled(scale),
            verifier=full.verifier.scaled(scale),
        )

    @classmethod
    def quick(cls) -> VerifierRecipe:
        """A few steps of everything: proves that the chain works and trains nothing."""
        tiny = cls.full(scale=0.0)
        return replace(tiny, attempted_tasks=8, rendered_tasks=8, held_out=32)

    @property
    def digest(self) -> str:
        """A short name for this recipe; its intermediate files lie under it."""
        return short_name(asdict(self))


def short_name(content: Any) -> str:
    """A short hash of JSON content."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
