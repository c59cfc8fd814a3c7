"""Metrics from several verifiers: who answered what, what is left out, and what is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eacps.domain import EditTask
from eacps.errors import ScoringError, SettingsError
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.plugins import Context
from eacps.scoring.registry import known_ranges
from eacps.settings import Settings
from eacps.verifiers import Answers, Verifier
from eacps.verifiers.scorer import VerifierScorer

SHARE = MetricRange(worst=0, best=1)
SCALE = {"satisfied": SHARE, "preserved": SHARE, "beauty": MetricRange(worst=10, best=0)}
IMAGE = Image.new("RGB", (8, 8))


class Says:
    """A verifier that answers what it was told to, about every image."""

    ranges: Mapping[str, MetricRange] = SCALE

    def __init__(self, why: str = "", **values: Any) -> None:
        self._answers = Answers(values, why)

    def judge(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Answers]:
        return [self._answers for _ in edited]


class Fails(Says):
    def judge(self, *_: object) -> Sequence[Answers]:
        raise RuntimeError("no network")


class Shortens(Says):
    """Forgets the last image."""

    def judge(self, *given: Any) -> Sequence[Answers]:
        return super().judge(*given)[:-1]


class Breaks(Says):
    """Returns something else than answers for the last image."""

    def judge(self, *given: Any) -> Sequence[Any]:
        return [*super().judge(*given)[:-1], None]


def explained(count: int = 1, **verifiers: Verifier) -> list[tuple[dict[str, float], str]]:
    scorer = VerifierScorer(verifiers)
    rows = scorer.explained(
        EditTask("a.png", "add a hat"), TaskImages(IMAGE), [IMAGE] * count, [1.0] * count
    )
    return [(dict(scores), why) for scores, why in rows]


def test_a_question_that_several_answer_gets_the_mean_and_one_that_one_answers_its_answer() -> None:
    [(scores, why)] = explained(
        one=Says("It has a hat.", satisfied=1.0, preserved=0.5),
        other=Says("The hat is red.", satisfied=0.5),
    )
    assert scores == {"satisfied": 0.75, "preserved": 0.5, "verified": 0.375}
    assert why == (
        "one: It has a hat. other: The hat is red. They disagree about satisfied: one 1, other 0.5."
    )


def test_a_lone_verifiers_reason_needs_no_name() -> None:
    assert explained(one=Says("It has a hat.", satisfied=1))[0][1] == "It has a hat."


def test_what_nobody_answered_is_no_metric() -> None:
    assert explained(one=Says(satisfied=1), other=Says())[0][0] == {"satisfied": 1}
    assert explained(one=Says())[0] == ({}, "")


@pytest.mark.parametrize("value", [0, 1, True, 0.5, np.float32(0.5), np.int64(1)])
def test_numbers_of_every_kind_within_the_range_count(value: Any) -> None:
    assert explained(one=Says(satisfied=value))[0] == ({"satisfied": float(value)}, "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"satisfied": 7}, "(satisfied was 7, not 0 to 1.)"),
        ({"satisfied": -0.01}, "(satisfied was -0.01, not 0 to 1.)"),
        ({"satisfied": float("nan")}, "(satisfied was nan, not 0 to 1.)"),
        ({"satisfied": float("inf")}, "(satisfied was inf, not 0 to 1.)"),
        ({"beauty": 11}, "(beauty was 11, not 10 to 0.)"),
        ({"satisfied": "yes"}, "(satisfied was 'yes', not a number.)"),
        ({"satisfied": None}, "(satisfied was None, not a number.)"),
        ({"taste": 1}, "(taste is none of its questions.)"),
        ({"verified": 1}, "(verified is none of its questions.)"),
    ],
)
def test_an_answer_that_cannot_be_is_left_out_and_said(values: dict[str, Any], words: str) -> None:
    [(scores, why)] = explained(judge=Says("It has a hat.", preserved=1, **values))
    assert scores == {"preserved": 1}
    assert why == f"It has a hat. {words}"


def test_a_worst_value_above_the_best_is_a_range_too() -> None:
    assert explained(one=Says(beauty=3))[0][0] == {"beauty": 3}


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        (Fails(satisfied=1), "No answer from bad: no network"),
        (Shortens(satisfied=1), "No answer from bad: It answered about 2 images instead of 3."),
        (Breaks(satisfied=1), "No answer from bad: 'NoneType' object"),
    ],
)
def test_a_verifier_that_fails_counts_for_no_image_and_the_others_do(
    verifier: Verifier, words: str
) -> None:
    rows = explained(3, good=Says("It has a hat.", satisfied=0.5), bad=verifier)
    assert [scores for scores, _ in rows] == [{"satisfied": 0.5}] * 3
    for _, why in rows:
        assert why.startswith(f"good: It has a hat. {words}")
    with pytest.raises(ScoringError, match=words.removeprefix("No answer from ")):
        explained(3, bad=verifier)


FILE = """
from eacps import Answers, MetricRange

class Judge:
    ranges = {"satisfied": MetricRange(worst=0, best=%s)}

    def judge(self, task, images, edited, progress):
        return [Answers({"satisfied": %s}, "I am %s.") for _ in edited]
"""


def test_two_classes_of_one_name_are_two_verifiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, answer in (("one", 0.0), ("other", 1.0)):
        Path(f"{name}.py").write_text(FILE % (1, answer, name))
    settings = Settings(_env_file=None, verifier="one.py:Judge, other.py:Judge")
    scorer = VerifierScorer.load(Context(settings))
    [(scores, why)] = scorer.explained(
        EditTask("a.png", "add a hat"), TaskImages(IMAGE), [IMAGE], [1.0]
    )
    assert scores == {"satisfied": 0.5}
    assert why.startswith("one.py:Judge: I am one. other.py:Judge: I am other. They disagree")


def test_two_scales_of_one_question_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.py").write_text(FILE % (1, 1, "one"))
    Path("other.py").write_text(FILE % (10, 1, "other"))
    settings = Settings(_env_file=None, verifier="one.py:Judge,other.py:Judge")
    with pytest.raises(SettingsError, match="'satisfied' on different scales"):
        known_ranges(settings)
    alone = known_ranges(Settings(_env_file=None, verifier="other.py:Judge"))
    assert alone["satisfied"].best == 10


def test_the_metrics_are_the_verifiers_questions_and_verified_where_its_parts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.py").write_text(FILE % (1, 1, "one"))
    Path("other.py").write_text((FILE % (1, 1, "other")).replace("satisfied", "preserved"))

    def metrics(verifier: str) -> set[str]:
        return set(VerifierScorer.metric_ranges(Settings(_env_file=None, verifier=verifier)))

    assert metrics("one.py:Judge") == {"satisfied"}
    assert metrics("one.py:Judge,other.py:Judge") == {"satisfied", "preserved", "verified"}
    assert metrics("") == metrics("/nowhere") == {"satisfied", "preserved", "intact", "verified"}
