"""Tiny vision-language models as `save_pretrained` writes them, taught what to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from tests.tiny_pipelines import byte_tokenizer, padded_length, vision_language_model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END = "<|im_end|>"
MOST_STEPS = 1000
LEARNING_RATE = 0.005
SURE = 0.6
"""A token of this probability is the one that greedy decoding takes."""


@dataclass(frozen=True)
class Lesson:
    """What a model is asked, as texts and pictures in order, and what it shall answer."""

    parts: Sequence[str | Image.Image]
    answer: str


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


def build(kind: str) -> tuple[Any, Any]:
    """A random model of this kind, and its processor; the same weights every time."""
    make, processor = KINDS[kind]
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 1 << 20
    model = make(tokenizer)
    end = tokenizer.convert_tokens_to_ids(END)
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = end
    pictures = Qwen2VLImageProcessor(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 28 * 28, "longest_edge": 100_000},
    )
    return model, processor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    )


def save(model: Any, processor: Any, folder: Path) -> Path:
    """Write what `local:FOLDER` and `transformers serve FOLDER` read."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def random_judge(kind: str, folder: Path) -> Path:
    """Save a model whose opinions are random, but strong."""
    model, processor = build(kind)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(6)
    return save(model, processor, folder)


def teach(model: Any, processor: Any, lessons: Sequence[Lesson]) -> None:
    """Train the weights that can be trained, until greedy decoding gives every answer."""
    inputs, answers = _batch([_prepared(processor, lesson) for lesson in lessons])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE)
    target = inputs["input_ids"][:, 1:][answers]
    for _ in range(MOST_STEPS):
        logits = model(**inputs).logits[:, :-1][answers]
        chances = logits.detach().softmax(-1).gather(1, target[:, None])
        if bool((chances > SURE).all()):
            return
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.cross_entropy(logits, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    raise AssertionError("the tiny model did not learn its lessons")


def _prepared(processor: Any, lesson: Lesson) -> tuple[dict[str, torch.Tensor], int]:
    """A lesson as inputs that end with its answer, and how many tokens the answer has."""
    given = processor.apply_chat_template(
        [{"role": "user", "content": [_content(part) for part in lesson.parts]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    words = lesson.answer + END
    answer = processor.tokenizer(words, add_special_tokens=False, return_tensors="pt").input_ids
    whole = dict(given)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        more = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
        whole[name] = torch.cat([given[name], more.get(name, torch.zeros_like(answer))], dim=1)
    return whole, answer.shape[1]


def _batch(
    ready: Sequence[tuple[dict[str, torch.Tensor], int]],
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Lessons as one batch, padded at the end, and which next tokens are answers."""
    longest = max(each["input_ids"].shape[1] for each, _ in ready)
    inputs: dict[str, torch.Tensor] = {}
    for name in ready[0][0]:
        parts = [each[name] for each, _ in ready]
        if name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            parts = [torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in parts]
        inputs[name] = torch.cat(parts)
    answers = torch.zeros(len(ready), longest - 1, dtype=torch.bool)
    for row, (each, length) in enumerate(ready):
        end = each["input_ids"].shape[1] - 1
        answers[row, end - length : end] = True
    return inputs, answers


def _content(part: str | Image.Image) -> dict[str, Any]:
    return (
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": part}
    )
