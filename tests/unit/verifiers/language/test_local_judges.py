"""Models on this machine: tiny Qwen2.5-VL and Qwen3-VL, saved and loaded like large ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from eacps.errors import ScoringError, SettingsError
from eacps.judge_names import judge_name
from eacps.plugins import Context
from eacps.settings import Settings
from eacps.testing import check_verifier
from eacps.verifiers.language.local import LocalJudge
from eacps.verifiers.registry import find_verifier
from tests.judge_server import picture_of
from tests.tiny_pipelines import byte_tokenizer, padded_length, vision_language_model
from tests.unit.verifiers.language.judges import IMAGES, settings_of, task_of

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen3(tokenizer: Any) -> Any:
    """Qwen3-VL with two layers."""
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": padded_length(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "mrope_section": [2, 3, 3],
            "rope_type": "default",
            "rope_theta": 1e6,
        },
        "pad_token_id": token("<|endoftext|>"),
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    return Qwen3VLForConditionalGeneration(config).eval()


KINDS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "qwen2.5": (vision_language_model, Qwen2VLProcessor),
    "qwen3": (qwen3, Qwen3VLProcessor),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, as `save_pretrained` writes it."""
    build, processor = KINDS[request.param]
    path: Path = tmp_path_factory.mktemp("local") / request.param
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 1 << 20
    model = build(tokenizer)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(6)
    model.save_pretrained(path)
    pictures = Qwen2VLImageProcessor(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 28 * 28, "longest_edge": 100_000},
    )
    processor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    ).save_pretrained(path)
    return path


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
    one, other = picture_of(8), picture_of(2)
    first = judge.compare(task_of(), IMAGES, one, other).first
    second = judge.compare(task_of(), IMAGES, other, one).first
    assert first == pytest.approx(1 - second, abs=1e-5)
    assert judge.compare(task_of(), IMAGES, one, one).first == pytest.approx(0.5, abs=1e-5)


def test_scores_of_two_tokens_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="scores of more than one token"):
        opened(folder, tmp_path, rubric="viescore")


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
