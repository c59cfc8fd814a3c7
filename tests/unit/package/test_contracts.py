"""The checks for plug-ins, run over everything built in that judges; and each refuses what breaks
its contract. Editors, face engines and strategies are checked in their own tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from eacps.metric_range import MetricRange
from eacps.scoring.registry import SCORERS
from eacps.settings import Settings
from eacps.testing import ContractError, check_scorer, check_verifier
from eacps.testing.contract import edits
from eacps.verifiers import Answers, Preference
from eacps.verifiers.registry import FORMATS
from tests.faces_gallery import face_models

Rows = list[dict[str, float]]
SPAN = MetricRange(worst=0, best=255)


@pytest.mark.parametrize("name", SCORERS.built_ins)
def test_every_scorer_keeps_the_contract(name: str, tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    # As long as the vectors of the demo's CLIP.
    save_file({"weight": torch.full((1, 128), 0.1), "bias": torch.tensor([5.0])}, head)
    options = {"aesthetic": {"head": str(head)}}
    settings = Settings(_env_file=None, face_models=face_models(), plugin_options=options)
    check_scorer(name, settings)


def test_every_verifier_keeps_the_contract() -> None:
    settings = Settings(_env_file=None)
    assert set(FORMATS.built_ins) == {"eacps-verifier-1"}
    check_verifier(str(settings.verifiers[0]), settings)


def red(image: Image.Image) -> float:
    pixel = image.resize((1, 1)).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return float(pixel[0])


class Red:
    """A scorer that is as it should be; each class below breaks one thing."""

    ranges: Mapping[str, MetricRange] = {"red": SPAN}

    def score(self, task: Any, images: Any, edited: Any, progress: Any) -> Rows:
        return [{"red": red(image)} for image in edited]

    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        return [[1 - abs(red(one) - red(other)) / 255 for other in images] for one in images]


class Undeclared(Red):
    ranges: Mapping[str, MetricRange] = {"green": SPAN}


class Ranges(Red):
    ranges: Mapping[str, Any] = {"red": (0, 255)}


class Short(Red):
    def score(self, *arguments: Any) -> Rows:
        return super().score(*arguments)[:2]


class NotANumber(Red):
    def score(self, *arguments: Any) -> Rows:
        return [{"red": float("nan")} for _ in super().score(*arguments)]


class Text(Red):
    def score(self, *arguments: Any) -> Any:
        return [{"red": "very"} for _ in super().score(*arguments)]


class Relative(Red):
    """Ranks instead of measuring: what an image gets depends on the others."""

    def score(self, *arguments: Any) -> Rows:
        values = [row["red"] for row in super().score(*arguments)]
        return [{"red": value - min(values)} for value in values]


class Drawing(Red):
    """Draws on what it was given."""

    def score(self, task: Any, images: Any, edited: Any, progress: Any) -> Rows:
        for image in edited:
            image.putpixel((0, 0), (1, 2, 3))
        return super().score(task, images, edited, progress)


class NeverEmpty(Red):
    def score(self, *arguments: Any) -> Rows:
        return super().score(*arguments) or [{"red": 0.0}]


class OneSided(Red):
    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        return [[1.0 if one == other else 0.01 * one for other in range(3)] for one in range(3)]


class Unlike(Red):
    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        return [[0.0] * len(images) for _ in images]


class Ragged(Red):
    def likeness(self, images: Sequence[Image.Image]) -> list[list[float]]:
        return [[1.0] for _ in images]


class Wordless(Red):
    def explained(self, *arguments: Any) -> Any:
        return [(row, None) for row in self.score(*arguments)]


class Talking(Red):
    """Says why."""

    def explained(self, *arguments: Any) -> Any:
        return [(row, "It is red.") for row in self.score(*arguments)]


class Inconsistent(Red):
    """A search would rank by what is said here."""

    def explained(self, *arguments: Any) -> Any:
        return [({"red": 1.0}, "It is red.") for _ in self.score(*arguments)]


@pytest.mark.parametrize("scorer", [Red, Talking])
def test_a_scorer_of_ones_own_passes(scorer: type) -> None:
    check_scorer(f"{__name__}:{scorer.__name__}", Settings(_env_file=None))


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        (Undeclared, "returns 'red', which is not in its `ranges`"),
        (Ranges, "is not a MetricRange"),
        (Short, "4 images gave 2 answers"),
        (NotANumber, "not a finite number: nan"),
        (Text, "not a finite number: 'very'"),
        (Relative, "in a batch, but .* alone"),
        (Drawing, "changes its input images"),
        (NeverEmpty, "not an empty list"),
        (OneSided, "not symmetric"),
        (Unlike, "to itself is not 1"),
        (Ragged, "not a square matrix"),
        (Wordless, "a reason is not a string"),
        (Inconsistent, "`explained` gives other metrics than `score`"),
    ],
)
def test_a_scorer_that_breaks_the_contract_is_reported(scorer: type, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_scorer(f"{__name__}:{scorer.__name__}", Settings(_env_file=None))


class Judge:
    """A verifier that keeps the contract and likes red."""

    ranges: Mapping[str, MetricRange] = {"satisfied": MetricRange(worst=0, best=1)}

    def judge(self, task: Any, images: Any, edited: Any, progress: Any) -> Sequence[Answers]:
        return [Answers({"satisfied": red(image) / 255}, "It is red.") for image in edited]

    def compare(self, task: Any, images: Any, first: Any, second: Any) -> Any:
        return Preference(1.0 if red(first) > red(second) else 0.0)


class Moody(Judge):
    """Answers differently each time."""

    calls = 0

    def judge(self, *arguments: Any) -> Sequence[Answers]:
        Moody.calls += 1
        return [Answers({"satisfied": 1 / Moody.calls}) for _ in super().judge(*arguments)]


class Voiceless(Judge):
    def judge(self, *arguments: Any) -> Any:
        why: Any = None
        return [Answers(each.values, why) for each in super().judge(*arguments)]


class Numeric(Judge):
    def compare(self, *arguments: Any) -> Any:
        return super().compare(*arguments).first


class Certain(Judge):
    def compare(self, *arguments: Any) -> Any:
        return Preference(7.0)


def test_a_verifier_of_ones_own_passes() -> None:
    check_verifier(f"{__name__}:Judge", Settings(_env_file=None))


def test_a_judge_that_samples_its_answers_is_not_asked_to_repeat_them() -> None:
    check_verifier(f"{__name__}:Moody", Settings(_env_file=None), repeats=False)


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        (Moody, "in a batch, but .* alone"),
        (Voiceless, "a reason is not a string"),
        (Numeric, "instead of a Preference"),
        (Certain, "instead of a Preference"),
    ],
)
def test_a_verifier_that_breaks_the_contract_is_reported(verifier: type, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_verifier(f"{__name__}:{verifier.__name__}", Settings(_env_file=None))


def test_the_pictures_to_judge_differ() -> None:
    assert len({image.tobytes() for image in edits()}) == len(edits())
