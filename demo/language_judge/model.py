"""The untrained judge: a small Qwen2.5-VL, a vocabulary of whole words, and its rubric."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from eacps.demo.bears import SIZE
from eacps.demo.bears.language import phrases
from eacps.demo.bears.scene import BACKGROUNDS, BODY_COLOURS, ITEM_COLOURS, KINDS, PARTS, SLOTS

PATCH: Final = 8
MERGE: Final = 2
PLACES: Final = (SIZE // PATCH // MERGE) ** 2
"""The number of tokens of a picture."""
IMAGE: Final = "<|image_pad|>"
UNKNOWN: Final = "<|unknown|>"
SPECIAL: Final = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", UNKNOWN),
    *("<|vision_start|>", "<|vision_end|>", IMAGE, "<|video_pad|>"),
)
RUBRIC: Final = "rubric.toml"
TEMPLATE: Final = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
RUBRIC_TEXT: Final = """# What the tiny judge of bears was trained to be asked, and how it answers.
format = "eacps-rubric-1"
name = "bears"
version = 1
title = "What both pictures show; then whether the edit is there and the rest as it was"
license = "Apache-2.0"
main = "verified"
instruction = "plain"
label = "{number}:"

[[calls]]
name = "edit"
pictures = ["source", "edited"]
layout = "score_list"
text = "{instruction}"

[[calls.questions]]
name = "satisfied"
text = "satisfied"

[[calls.questions]]
name = "preserved"
text = "preserved"

[[metrics]]
name = "satisfied"
of = ["satisfied"]

[[metrics]]
name = "preserved"
of = ["preserved"]

[[metrics]]
name = "verified"
of = ["satisfied", "preserved"]
combine = "product"
"""
BEGINS: Final = '{"reasoning": "'
MARKS: Final = ("same", "changed", "done", "missing")
"""What became of a part: unasked and as it was or not; asked for and carried out or not."""


def answer(reasons: str, satisfied: int, preserved: int) -> str:
    """What the judge writes: part by part what both pictures show, then the scores."""
    return f'{BEGINS}{reasons}", "score": [{satisfied}, {preserved}]}}'


def build_tokenizer() -> Any:
    """One token for each word of the grammar, of the questions and of the answers."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {
        *BODY_COLOURS,
        *BACKGROUNDS,
        *ITEM_COLOURS,
        *SLOTS,
        *PARTS,
        *MARKS,
        "rest",
        "no",
        "and",
        "a",
    }
    words |= {word for kinds in KINDS.values() for kind in kinds for word in kind.split()}
    words |= {word for phrase in phrases() for word in phrase.split()}
    texts = [*(form for word in words for form in (word, f" {word}", f"a {word}"))]
    texts += [answer("a", 0, 1), "1:2:", *"0123456789", *", . ; : - ' ! ?"]
    split = pre_tokenizers.Split(Regex(r"\d| ?[a-z]+| ?[^\w\s]|\s"), "isolated")
    found = {piece for text in texts for piece, _ in split.pre_tokenize_str(text.lower())}
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *sorted(found)])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = split
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token=UNKNOWN,
        pad_token=SPECIAL[0],
        eos_token="<|im_end|>",  # noqa: S106
        additional_special_tokens=list(SPECIAL),
        model_max_length=1024,
    )


def build_model(tokenizer: Any) -> Any:
    """About two million weights."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "rope_parameters": {"mrope_section": [4, 6, 6], "rope_type": "default", "rope_theta": 1e4},
        "pad_token_id": token(SPECIAL[0]),
        "eos_token_id": token("<|im_end|>"),
        "bos_token_id": token(SPECIAL[0]),
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 4,
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_heads": 4,
        "out_hidden_size": 128,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "window_size": SIZE,
        "fullatt_block_indexes": [0, 1, 2, 3],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token(IMAGE),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def build_processor(tokenizer: Any) -> Any:
    """Every picture becomes SIZE x SIZE."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    pictures = Qwen2VLImageProcessor(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
    )
    return Qwen2_5_VLProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    )


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write what `EACPS_VERIFIER=local:FOLDER` reads, with the rubric to name in EACPS_RUBRIC."""
    import torch

    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)
    build_processor(tokenizer).save_pretrained(folder)
    (folder / RUBRIC).write_text(RUBRIC_TEXT, encoding="utf-8")
