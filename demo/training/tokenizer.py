"""A tiny byte-pair tokenizer for the grammar, in the file format of CLIP tokenizers."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from eacps.demo.bears.language import phrases

CONTEXT: Final = 24
START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
END_OF_WORD: Final = "</w>"
REPEATS: Final = 50
OTHER_WORDS: Final = (
    "a photo of a teddy bear with a hat",
    "a bear wearing no hat without sunglasses scarf holding nothing in its hand",
    "on the background at the and",
)


def write_tokenizer(folder: Path) -> None:
    """Learn the merges and write a tokenizer folder."""
    vocabulary, merges = _learned()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    settings = {
        "model_max_length": CONTEXT,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    load_tokenizer(folder).save_pretrained(folder)


def _learned() -> tuple[dict[str, int], list[str]]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    alphabet = list(string.ascii_lowercase + string.digits + ".,!?'-")
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[START, END],
        initial_alphabet=alphabet,
        end_of_word_suffix=END_OF_WORD,
        min_frequency=20,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*phrases(), *OTHER_WORDS] * REPEATS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for symbol in alphabet:
        for token in (symbol + END_OF_WORD, symbol):
            vocabulary.setdefault(token, len(vocabulary))
    return vocabulary, [" ".join(merge) for merge in model["merges"]]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def token_ids(tokenizer: Any, texts: list[str]) -> NDArray[numpy.int16]:
    """Padded token ids [len(texts), CONTEXT]; each distinct text is tokenised once."""
    if not texts:
        return numpy.zeros((0, CONTEXT), numpy.int16)
    distinct = sorted(set(texts))
    rows = tokenizer(distinct, padding="max_length", max_length=CONTEXT, truncation=True)
    ids = numpy.array(rows["input_ids"], numpy.int16)
    place = {text: index for index, text in enumerate(distinct)}
    return ids[[place[text] for text in texts]]
