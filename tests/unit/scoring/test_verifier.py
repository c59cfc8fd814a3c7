"""The answers of the demo's verifier, and the errors about folders that are not verifiers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from eacps.demo.bears import render
from eacps.demo.tasks import DemoTask, demo_tasks
from eacps.domain import EditTask
from eacps.errors import EacpsError, ScoringError, SettingsError
from eacps.images import TaskImages
from eacps.plugins import Context
from eacps.scoring import Potential, open_scorers
from eacps.settings import Settings
from eacps.verifiers.scorer import VerifierScorer
from tests.unit.scoring.scoring_cases import images, task


@pytest.fixture
def scorer(settings: Settings) -> VerifierScorer:
    return VerifierScorer.load(Context(settings))


@pytest.fixture(scope="module")
def bears() -> list[DemoTask]:
    return demo_tasks(40, seed=19, size=64)


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    """A copy of the shipped verifier, without the pack's manifest."""
    return shutil.copytree(settings.verifier, tmp_path / "verifier")


def judged(
    scorer: VerifierScorer, bear: DemoTask, *edited: Image.Image, progress: float = -1.0
) -> list[dict[str, float]]:
    asked = EditTask("bear", bear.instruction)
    seen = TaskImages(bear.source)
    return [dict(row) for row in scorer.score(asked, seen, edited, [progress] * len(edited))]


def opened(folder: Path | str) -> VerifierScorer:
    return VerifierScorer.load(Context(Settings(_env_file=None, verifier=str(folder))))


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def test_the_right_edit_is_verified_and_the_unchanged_image_is_not(
    scorer: VerifierScorer, bears: list[DemoTask]
) -> None:
    rows = [judged(scorer, bear, render(bear.after), bear.source) for bear in bears]
    assert share([right["verified"] > nothing["verified"] for right, nothing in rows]) >= 0.95
    assert share([nothing["satisfied"] < 0.5 for _, nothing in rows]) >= 0.9
    assert share([nothing["preserved"] > 0.5 for _, nothing in rows]) >= 0.9


def test_another_bear_is_not_preserved_and_noise_is_not_intact(
    scorer: VerifierScorer, bears: list[DemoTask]
) -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    others = [*bears[1:], bears[0]]
    rows = [
        judged(scorer, bear, render(bear.after), render(other.after), noise)
        for bear, other in zip(bears, others, strict=True)
    ]
    assert share([other["preserved"] < right["preserved"] for right, other, _ in rows]) >= 0.95
    assert share([noisy["intact"] < right["intact"] for right, _, noisy in rows]) >= 0.95


def test_images_get_the_same_answers_in_a_batch_alone_and_in_other_sizes(
    scorer: VerifierScorer, bears: list[DemoTask]
) -> None:
    bear = bears[0]
    edits = [render(bear.after), bear.source, render(bears[1].after)]
    for edit, together in zip(edits, judged(scorer, bear, *edits), strict=True):
        assert judged(scorer, bear, edit)[0] == pytest.approx(together, abs=1e-4)
        larger = edit.resize((256, 256), Image.Resampling.NEAREST)
        assert judged(scorer, bear, larger)[0] == pytest.approx(together, abs=1e-4)


def test_words_that_it_does_not_know_count_as_not_carried_out(
    scorer: VerifierScorer, bears: list[DemoTask]
) -> None:
    seen, edit = TaskImages(bears[0].source), render(bears[0].after)
    known = bears[0].instruction
    for instruction, share_of_it in ((known, 1), (f"{known} {'xyz ' * 99}", 0.2), ("добавь", 0)):
        [(scores, why)] = scorer.explained(EditTask("bear", instruction), seen, [edit], [1.0])
        assert scores["satisfied"] <= share_of_it
        assert bool(why) == (share_of_it < 1)
        assert ("does not know" in why) == (share_of_it < 1)
    assert scores["verified"] == 0


def test_verified_is_satisfied_and_preserved(scorer: VerifierScorer, bears: list[DemoTask]) -> None:
    (row,) = judged(scorer, bears[0], render(bears[0].after), progress=0.4)
    assert row["verified"] == pytest.approx(row["satisfied"] * row["preserved"])
    assert all(0 <= value <= 1 for value in row.values())


def test_nothing_to_judge_is_no_error(scorer: VerifierScorer, source: Image.Image) -> None:
    assert list(scorer.score(task(), images(source), [], [])) == []


def test_it_ranks_when_the_weights_name_it(bears: list[DemoTask]) -> None:
    settings = Settings(_env_file=None, potential="weighted", weights={"verified": 1})
    potential = Potential.of(settings)
    (scorer,) = [
        each
        for each in open_scorers(settings, "cpu", potential.metric_names)
        if "verified" in each.ranges
    ]
    asked = EditTask("bear", bears[0].instruction)
    wrong, right = scorer.score(
        asked, TaskImages(bears[0].source), [bears[0].source, render(bears[0].after)], [1.0, 1.0]
    )
    assert (potential.judge(right).value or 0) > (potential.judge(wrong).value or 0)


def test_it_is_opened_only_when_it_is_needed(settings: Settings) -> None:
    default = open_scorers(settings, "cpu", Potential.of(settings).metric_names)
    assert not any("verified" in scorer.ranges for scorer in default)
    nowhere = Settings(_env_file=None, verifier="/nowhere")
    assert open_scorers(nowhere, "cpu", ("region",))


def test_without_a_verifier_its_metrics_are_refused() -> None:
    with pytest.raises(SettingsError, match="EACPS_VERIFIER is empty"):
        opened("")


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(ScoringError, match=r"nowhere.*EACPS_VERIFIER"):
        opened("/nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ScoringError, match=f"has no {name}"):
        opened(folder)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"format": "eacps-verifier-1"}',
        '{"format": "eacps-verifier-1", "network": {"image_size": 64}}',
        '{"format": "eacps-verifier-1", "network": 3}',
    ],
)
def test_an_invalid_config_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ScoringError, match=r"config\.json does not describe a verifier"):
        opened(folder)


@pytest.mark.parametrize(
    "changes",
    [{"image_size": 100}, {"traits": []}, {"change_widths": [30, 64, 96]}, {"hidden": "64"}],
)
def test_impossible_sizes_are_refused(folder: Path, changes: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["network"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ScoringError, match="does not describe a verifier"):
        opened(folder)


def test_another_format_is_refused_by_its_name(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": "eacps-verifier-9"}))
    with pytest.raises(ScoringError, match="eacps-verifier-9"):
        opened(folder)


def test_truncated_weights_and_those_of_another_network_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ScoringError, match="are not the weights of this verifier"):
        opened(folder)
    save_file({"something": torch.zeros(3)}, weights)
    with pytest.raises(ScoringError, match="are not the weights of this verifier"):
        opened(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = next(iter(state))
    save_file(
        {**state, name: torch.full_like(state[name], torch.nan)}, folder / "model.safetensors"
    )
    with pytest.raises(ScoringError, match="not finite"):
        opened(folder)


def test_a_tokenizer_with_more_words_than_the_network_knows_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"word{number}": len(vocabulary) + number for number in range(5)}
    path.write_text(json.dumps(content))
    with pytest.raises(ScoringError, match="is not this verifier's"):
        opened(folder)
    path.write_text("{")
    with pytest.raises(ScoringError, match="is not a tokenizer"):
        opened(folder)


def test_changed_weights_under_a_manifest_are_refused(folder: Path) -> None:
    entry = {"sha256": "0" * 64, "bytes": 1}
    manifest = {"format": "eacps-weights-1", "files": {"model.safetensors": entry}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EacpsError, match="not the published ones"):
        opened(folder)


def test_the_fingerprint_depends_on_the_verifier(folder: Path) -> None:
    shipped, copied, none = (
        Settings(_env_file=None, verifier=str(where)).fingerprint
        for where in (Settings(_env_file=None).verifier, folder, "")
    )
    assert len({shipped, none}) == 2
    assert copied != none
