"""What judges find wrong with a result, as words for an editor: few, and in a safe form."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

LENGTH: Final = 160
"""The most characters, because text encoders cut long instructions off."""
BEGINS: Final = "Avoid this:"
INSTANCE: Final = "instance"
"""The share of a task's questions that are answered with yes; its reason says which are not."""
CLEAR: Final = 0.5
"""Below this an answer is a complaint, where nobody says what is too low."""


def criticism(
    scores: Mapping[str, float], reasons: Mapping[str, str], wrong: Collection[str]
) -> str:
    """The reasons for those of these scores that are wrong, the lowest first, as far as they fit;
    empty without any.

    Reasons are a model's words, which may have read the instruction or a text in a picture: they
    become one short line without anything that ends a sentence of the instruction or begins
    another part of a prompt.

    >>> reasons = {"satisfied": "The hat is blue,\\nnot red.", "preserved": "The sky is darker."}
    >>> criticism({"satisfied": 0.4, "preserved": 0.1}, reasons, {"satisfied", "preserved"})
    'Avoid this: The sky is darker. The hat is blue, not red.'
    >>> criticism({"satisfied": 0.4}, reasons, {"intact"})
    ''
    """
    told: list[str] = []
    for name in sorted(wrong & reasons.keys(), key=lambda name: _order(scores, name)):
        words = _plain(reasons[name])
        if words and words not in told:
            told.append(words)
    if not told:
        return ""
    first, *others = told
    text = f"{BEGINS} {_cut(first, LENGTH - len(BEGINS) - 1)}"
    for words in others:
        if len(text) + 1 + len(words) <= LENGTH:
            text = f"{text} {words}"
    return text


def complaints(scores: Mapping[str, float], reasons: Mapping[str, str]) -> str:
    """The criticism of a candidate by its low answers alone, for people to change and use.

    >>> complaints({"satisfied": 0.1, "intact": 0.9}, {"satisfied": "No hat.", "intact": "Clean."})
    'Avoid this: No hat.'
    """
    low = {name for name, value in scores.items() if value < CLEAR or name == INSTANCE}
    return criticism(scores, reasons, low)


def _order(scores: Mapping[str, float], name: str) -> tuple[float, str]:
    value = scores.get(name, math.inf)
    return (value if math.isfinite(value) else math.inf, name)


def _plain(text: str) -> str:
    """One line of letters, digits and the signs of a plain sentence."""
    kept = "".join(one if one.isalnum() or one in " .,;:'?!%/-" else " " for one in text)
    line = " ".join(kept.split())
    if not any(one.isalnum() for one in line):
        return ""
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return text[: most - 1].rpartition(" ")[0].rstrip(" .,;:") + "."
