"""Models on this machine: tiny Qwen2.5-VL and Qwen3-VL, saved and loaded like large ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eacps.errors import ScoringError, SettingsError
from eacps.judge_names import judge_name
from eacps.plugins import Context
from eacps.settings import Settings
from eacps.testing import check_verifier
from eacps.verifiers.language.local import ComparingLocalJudge, LocalJudge
from eacps.verifiers.registry import find_verifier
from tests.judge_server import picture_of
from tests.tiny_judges import KINDS, random_judge
from tests.unit.verifiers.language.judges import IMAGES, settings_of, task_of


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, as `save_pretrained` writes it."""
    return random_judge(request.param, tmp_path_factory.mktemp("local") / request.param)


def opened(folder: Path, place: Path, **options: Any) -> LocalJudge:
    settings = settings_of(
        place, verifier=f"local:{folder}", plugin_options={"local": options} if options else {}
    )
    judge = find_verifier(f"local:{folder}", settings).load(settings, "cpu")
    assert isinstance(judge, LocalJudge)
    return judge


def test_a_local_judge_keeps_the_contract_of_verifiers(folder: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, verifier=f"local:{folder}")
    check_verifier(f"local:{folder}", settings)


def test_every_question_is_answered_and_edits_do_not_tie(folder: Path, tmp_path: Path) -> None:
    judge = opened(folder, tmp_path)
    edited = [picture_of(score) for score in (1, 5, 9)]
    rows = judge.judge(task_of(), IMAGES, edited, [1.0] * 3)
    assert [set(row.values) for row in rows] == [{"satisfied", "preserved", "intact"}] * 3
    assert len({row.values["satisfied"] for row in rows}) == 3
    assert all(0 < value < 1 for row in rows for value in row.values.values())


def test_the_score_is_the_expected_value_of_the_models_own_probabilities(
    folder: Path, tmp_path: Path
) -> None:
    judge = opened(folder, tmp_path)
    parts = ["How bright is it? Answer with one digit.", picture_of(7)]
    logits = judge._logits(parts)
    ids = [judge._processor.tokenizer.encode(str(digit))[0] for digit in range(10)]
    chances = logits[ids].softmax(0)
    mean = sum(float(chance) * digit for digit, chance in enumerate(chances))
    allowed = {str(digit): float(digit) for digit in range(10)}
    assert judge._expected(parts, allowed) == pytest.approx(mean, rel=1e-4)


def test_a_preference_does_not_depend_on_the_order(folder: Path, tmp_path: Path) -> None:
    judge = opened(folder, tmp_path)
    assert isinstance(judge, ComparingLocalJudge)
    one, other = picture_of(8), picture_of(2)
    first = judge.compare(task_of(), IMAGES, one, other).first
    second = judge.compare(task_of(), IMAGES, other, one).first
    assert first == pytest.approx(1 - second, abs=1e-5)
    assert judge.compare(task_of(), IMAGES, one, one).first == pytest.approx(0.5, abs=1e-5)


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="which is no folder"):
        opened(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScoringError, match="cannot be loaded"):
        opened(tmp_path / "empty", tmp_path)


def test_a_local_judge_counts_by_its_weights_and_not_by_its_place(
    folder: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    names = [f"local:{path}" for path in (folder, tmp_path / "copy")]
    one, other = (Settings(_env_file=None, verifier=name) for name in names)
    assert one.fingerprint == other.fingerprint
    found = judge_name(names[0])
    assert found is not None
    assert not found.remote
    assert Context(one).device == "cpu"
