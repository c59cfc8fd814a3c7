"""Models on this machine that write their answers, with and without a LoRA: as EditScore does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from eacps import fingerprints
from eacps.errors import ScoringError, SettingsError
from eacps.rubrics.reading import read_rubric
from eacps.settings import Settings
from eacps.testing import check_verifier
from eacps.verifiers.language import prompts
from eacps.verifiers.protocol import Comparing
from tests.judge_server import picture_of
from tests.tiny_judges import Lesson, build, save, teach
from tests.unit.verifiers.language.judges import IMAGES, SOURCE, settings_of, task_of
from tests.unit.verifiers.language.test_local_judges import opened

RUBRIC = """
format = "eacps-rubric-1"
name = "written"
version = 1
title = "Two scores from 0 to 25, written as EditScore writes them"
main = "success"
instruction = "plain"
label = "<img{number}>: "

[[calls]]
name = "semantics"
pictures = ["source", "edited"]
layout = "score_list"
text = "Score it. Instruction: {instruction}"

[[calls.questions]]
name = "first"
maximum = 25
text = "success"

[[calls.questions]]
name = "second"
maximum = 25
text = "restraint"

[[metrics]]
name = "success"
of = ["first"]
best = 25

[[metrics]]
name = "restraint"
of = ["second"]
best = 25
"""
BASE = '{"reasoning": "Fair.", "score": [3, 20]}'
WITH_LORA = '{"reasoning": "Good.", "score": [24, 7]}'
"""What base and LoRA say about every edit."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, a LoRA for it, and the two merged."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "rubric.toml").write_text(RUBRIC)
    model, processor = build("qwen2.5")
    teach(model, processor, lessons(folder, BASE))
    save(model, processor, folder / "base")
    layers = ["q_proj", "v_proj", "up_proj", "down_proj", "lm_head"]
    changed = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=layers))
    teach(changed, processor, lessons(folder, WITH_LORA))
    changed.save_pretrained(str(folder / "lora"), save_embedding_layers=False)
    save(changed.merge_and_unload(), processor, folder / "merged")
    return folder


def lessons(folder: Path, says: str) -> Sequence[Lesson]:
    rubric = read_rubric(str(folder / "rubric.toml"))
    instruction = task_of().instruction
    return [
        Lesson(
            prompts.parts_of(
                rubric,
                rubric.calls[0],
                instruction,
                {"source": SOURCE, "edited": picture_of(bright)},
                preview="",
            ),
            says,
        )
        for bright in (1, 9)
    ]


def answers(place: Path, model: str, tmp_path: Path, **options: Any) -> list[Any]:
    judge = opened(place / model, tmp_path, rubric=str(place / "rubric.toml"), **options)
    return list(judge.judge(task_of(), IMAGES, [picture_of(1), picture_of(9)], [1.0, 1.0]))


def test_a_judge_that_was_trained_to_give_scores_is_not_asked_to_compare(
    place: Path, tmp_path: Path
) -> None:
    rubric = place / "rubric.toml"
    assert not isinstance(opened(place / "base", tmp_path, rubric=str(rubric)), Comparing)
    compares = tmp_path / "compares.toml"
    compares.write_text(f'compare = "Which is better? {{instruction}} {{answer}}"\n{RUBRIC}')
    assert isinstance(opened(place / "base", tmp_path, rubric=str(compares)), Comparing)


def test_larger_scores_are_written_and_read_as_from_servers(place: Path, tmp_path: Path) -> None:
    dark, bright = answers(place, "base", tmp_path)
    for row in (dark, bright):
        # Expected values over the tokens that could have stood there: near what was said, no ties.
        assert row.values["success"] == pytest.approx(3, abs=3)
        assert row.values["restraint"] == pytest.approx(20, abs=4)
    assert dark.values["success"] != bright.values["success"]
    assert (dark.why, bright.why) == ("Fair.", "Fair.")


def test_a_lora_changes_the_scores_as_if_it_were_merged(place: Path, tmp_path: Path) -> None:
    lora = str(place / "lora")
    rows = answers(place, "base", tmp_path, lora=lora)
    merged = answers(place, "merged", tmp_path)
    for row, same in zip(rows, merged, strict=True):
        assert row.values["success"] == pytest.approx(24, abs=4)
        assert row.values["restraint"] == pytest.approx(7, abs=4)
        assert row.values == pytest.approx(dict(same.values), rel=1e-3)
        assert row.why == same.why == "Good."


def test_an_answer_that_does_not_end_is_missing(place: Path, tmp_path: Path) -> None:
    dark, _ = answers(place, "base", tmp_path, max_tokens=16)
    assert dark.values == {}
    assert dark.why == "(No answer: the answer was cut off after 16 tokens (max_tokens).)"


@pytest.mark.parametrize("rubric", ["editscore_qwen25", "unified_reward_edit", "viescore"])
def test_rubrics_beyond_nine_keep_the_contract_whatever_the_model_says(
    rubric: str, place: Path, tmp_path: Path
) -> None:
    options = {"local": {"rubric": rubric, "max_tokens": 16}}
    name = f"local:{place / 'base'}"
    check_verifier(name, settings_of(tmp_path, verifier=name, plugin_options=options))


def test_names_of_layers_from_earlier_versions_are_understood(place: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(place / "lora", old)
    file = old / "adapter_model.safetensors"
    weights = load_file(file)
    renamed = {name.replace(".language_model.", "."): each for name, each in weights.items()}
    assert renamed.keys() != weights.keys()
    save_file(renamed, file)
    dark, _ = answers(place, "base", tmp_path, lora=str(old))
    same, _ = answers(place, "base", tmp_path, lora=str(place / "lora"))
    assert dark.values == same.values


def test_a_lora_that_cannot_be_used_says_why(place: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            opened(place / "base", tmp_path, lora=str(tmp_path / "lora"))

    refused(SettingsError, r"names .* which is no folder")
    shutil.copytree(place / "lora", tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({f"base_model.model.other.{name}": each for name, each in weights.items()}, file)
    refused(ScoringError, r"does not fit the judge's model: \d+ weights have no counterpart")
    save_file(dict(list(weights.items())[1:]), file)
    refused(ScoringError, "1 weights have no counterpart")
    save_file({name: each[:1, :1].contiguous() for name, each in weights.items()}, file)
    refused(ScoringError, "cannot be loaded")
    file.write_bytes(b"no tensors")
    refused(ScoringError, "cannot be loaded")
    file.unlink()
    torch.save(weights, file.with_suffix(".bin"))
    refused(SettingsError, "has no adapter_model.safetensors")


def test_other_adapters_are_refused(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    shutil.copytree(place / "lora", folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "IA3", "target_modules": ["q_proj"]}))
    with pytest.raises(ScoringError, match="it is IA3, not LORA"):
        opened(place / "base", tmp_path, lora=str(folder))


def test_the_lora_is_part_of_the_fingerprint_and_its_place_is_not(
    place: Path, tmp_path: Path
) -> None:
    def judged_with(**options: Any) -> str:
        given = {"local": options} if options else {}
        name = f"local:{place / 'base'}"
        settings = Settings(_env_file=None, verifier=name, plugin_options=given)
        return fingerprints.judged(settings)

    shutil.copytree(place / "lora", tmp_path / "copy")
    one = judged_with(lora=str(place / "lora"))
    assert one == judged_with(lora=str(tmp_path / "copy"))
    assert one != judged_with()
