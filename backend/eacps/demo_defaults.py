"""Warns about defaults made for the demo that are used with another editor, and about what the
demo's own editor cannot do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from eacps import plugins
from eacps.settings import DEMO_PACK, Settings

KNOWN_WORDS: Final = frozenset(
    [
        "a",
        "add",
        "background",
        "balloon",
        "beach",
        "bear",
        "black",
        "blue",
        "bow",
        "brown",
        "change",
        "colour",
        "crown",
        "delete",
        "flower",
        "forest",
        "give",
        "gray",
        "green",
        "hat",
        "hold",
        "let",
        "make",
        "night",
        "off",
        "on",
        "party",
        "pink",
        "plain",
        "purple",
        "put",
        "red",
        "remove",
        "scarf",
        "snow",
        "sunglasses",
        "take",
        "the",
        "tie",
        "to",
        "top",
        "turn",
        "white",
        "yellow",
        "and",
    ]
)
"""The words of the sentences that the demo's editor and verifier were trained on."""
_UNIMPORTANT: Final = frozenset(
    ["an", "color", "her", "his", "its", "of", "please", "some", "with"]
)
_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_SHOWN_WORDS: Final = 8
_CLIP_METRICS = frozenset({"pf", "pf_dir", "cons"})
_ANSWERS = frozenset({"satisfied", "preserved", "intact", "verified"})


def demo_defaults_in_use(settings: Settings) -> tuple[str, ...]:
    """A warning in one sentence, or nothing.

    The demo's judges know only cartoon bears; its steps and guidance suit only its own editor.
    """
    if is_in_demo_pack(settings.editor):
        return ()
    parts, variables = [], []
    if is_in_demo_pack(settings.clip) and _uses_clip(settings):
        parts.append("a CLIP that knows only cartoon bears")
        variables.append("EACPS_CLIP")
    if any(map(is_in_demo_pack, settings.verifiers)) and _uses_verifier(settings):
        parts.append("a verifier that knows only cartoon bears")
        variables.append("EACPS_VERIFIER")
    if not plugins.is_reference(settings.editor):
        for name, words in (("steps", "steps"), ("guidance", "guidance")):
            if name not in settings.model_fields_set:
                parts.append(f"{words} {getattr(settings, name):g}")
                variables.append(f"EACPS_{name.upper()}")
    if not parts:
        return ()
    return (f"The demo's defaults are in use: {', '.join(parts)}. Set {', '.join(variables)}.",)


def unknown_words(instruction: str) -> tuple[str, ...]:
    """The words of an instruction that the demo's editor and verifier do not know.

    >>> unknown_words("Please add a red fedora and a hat!")
    ('fedora',)
    """
    words = _WORD.findall(instruction.lower())
    return tuple(dict.fromkeys(each for each in words if not _is_known(each)))


def share_known(instruction: str) -> float:
    """The share of an instruction's words that the demo's editor and verifier know."""
    words = [each for each in _WORD.findall(instruction.lower()) if each not in _UNIMPORTANT]
    return sum(map(_is_known, words)) / len(words) if words else 0.0


def unknown_to_editor(settings: Settings, instruction: str) -> tuple[str, ...]:
    """A warning in one sentence if the demo's editor does not understand an instruction."""
    if not is_in_demo_pack(settings.editor):
        return ()
    return tuple(
        f"The demo's editor does not know {words}: it was made for cartoon bears, and draws "
        "something else instead."
        for words in named(instruction)
    )


def named(instruction: str) -> tuple[str, ...]:
    """The unknown words in words, or nothing."""
    unknown = unknown_words(instruction)
    if not unknown and _WORD.search(instruction):
        return ()
    if not any(_is_known(word) for word in _WORD.findall(instruction.lower())):
        return ("any word of the instruction",)
    shown = ", ".join(f"“{word[:30]}”" for word in unknown[:_SHOWN_WORDS])
    more = len(unknown) - _SHOWN_WORDS
    return (f"{shown} and {more} other words" if more > 0 else shown,)


def _is_known(word: str) -> bool:
    return word in KNOWN_WORDS or word in _UNIMPORTANT


def is_in_demo_pack(name: str) -> bool:
    """Whether weights are the demo's."""
    return Path(name).is_relative_to(DEMO_PACK)


def _uses_clip(settings: Settings) -> bool:
    if settings.potential == "eacps":
        return True
    asked = settings.weights.keys()
    return bool(asked & _CLIP_METRICS) or ("lpips" in asked and settings.lpips_trunk == "clip")


def _uses_verifier(settings: Settings) -> bool:
    return settings.potential == "weighted" and bool(settings.weights.keys() & _ANSWERS)
