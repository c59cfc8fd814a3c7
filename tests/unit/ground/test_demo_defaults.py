"""With an editor that is not the demo's, what of the demo is still in use is said in one line."""

from __future__ import annotations

from typing import Any

import pytest

from eacps.demo.bears.language import phrases
from eacps.demo_defaults import (
    KNOWN_WORDS,
    demo_defaults_in_use,
    share_known,
    unknown_to_editor,
    unknown_words,
)
from eacps.settings import DEMO_PACK, Settings

OWN = "Qwen/Qwen-Image-Edit"
CLIP = "a CLIP that knows only cartoon bears"
VERIFIER = "a verifier that knows only cartoon bears"


def said(**changes: Any) -> str:
    found = demo_defaults_in_use(Settings(_env_file=None, **changes))
    assert len(found) <= 1
    return found[0] if found else ""


@pytest.mark.parametrize("editor", ["editor", "editor-early"])
def test_with_the_demos_own_editors_nothing_is_said(editor: str) -> None:
    assert said(editor=str(DEMO_PACK / editor)) == ""
    assert said() == ""


def test_with_another_editor_everything_of_the_demo_is_said_with_its_setting() -> None:
    assert said(editor=OWN) == (
        f"The demo's defaults are in use: {CLIP}, steps 12, guidance 2. Set EACPS_CLIP, "
        "EACPS_STEPS, EACPS_GUIDANCE."
    )


def test_what_somebody_chose_is_not_the_demos_even_where_it_is_the_same() -> None:
    told = said(editor=OWN, steps=12, clip="ViT-B-32/openai")
    assert told == "The demo's defaults are in use: guidance 2. Set EACPS_GUIDANCE."
    assert said(editor=OWN, steps=12, guidance=2.0, clip="ViT-B-32/openai") == ""


def test_an_editor_of_ones_own_class_has_its_own_steps_and_guidance() -> None:
    assert said(editor="mine.py:Editor") == (
        f"The demo's defaults are in use: {CLIP}. Set EACPS_CLIP."
    )


@pytest.mark.parametrize(
    ("weights", "trunk", "clip", "verifier"),
    [
        ({"pf": 1}, "clip", True, False),
        ({"cons": 1}, "clip", True, False),
        ({"lpips": 1}, "clip", True, False),
        ({"lpips": 1}, "alex", False, False),
        ({"verified": 1}, "clip", False, True),
        ({"intact": 1, "pf_dir": 1}, "alex", True, True),
        ({"region": 1}, "clip", False, False),
    ],
)
def test_a_judge_that_decides_nothing_is_not_mentioned(
    weights: dict[str, float], trunk: str, clip: bool, verifier: bool
) -> None:
    told = said(editor=OWN, potential="weighted", weights=weights, lpips_trunk=trunk)
    assert (CLIP in told, VERIFIER in told) == (clip, verifier)
    assert ("EACPS_CLIP" in told, "EACPS_VERIFIER" in told) == (clip, verifier)


def test_the_demos_verifier_is_noticed_among_others_and_others_are_not() -> None:
    chosen: dict[str, Any] = {"editor": OWN, "potential": "weighted", "weights": {"verified": 1}}
    assert VERIFIER in said(**chosen, verifier=f"mine.py:Judge,{DEMO_PACK / 'verifier'}")
    assert VERIFIER not in said(**chosen, verifier="mine.py:Judge")
    assert VERIFIER not in said(**chosen, verifier="")


def test_the_potential_eacps_asks_no_verifier_whatever_the_weights_say() -> None:
    assert VERIFIER not in said(editor=OWN, potential="eacps", weights={"verified": 1})


def test_the_known_words_are_those_of_the_grammar() -> None:
    assert {word for phrase in phrases() for word in phrase.split()} | {"and"} == KNOWN_WORDS


@pytest.mark.parametrize(
    ("instruction", "unknown", "known"),
    [
        ("add a red hat and make the bear blue", (), 1.0),
        ("Please put some sunglasses on the bear.", (), 1.0),
        ("добавь шляпу", ("добавь", "шляпу"), 0.0),
        ("给熊戴帽子", ("给熊戴帽子",), 0.0),
        ("add headphones", ("headphones",), 0.5),
        ("🎩🎩", (), 0.0),
    ],
)
def test_unknown_words_are_named(instruction: str, unknown: tuple[str, ...], known: float) -> None:
    assert unknown_words(instruction) == unknown
    assert share_known(instruction) == known
    told = "".join(unknown_to_editor(Settings(_env_file=None), instruction))
    assert bool(told) == (known < 1)
    assert all(word in told for word in unknown if known)
    other = Settings(_env_file=None, editor="Qwen/Qwen-Image-Edit")
    assert unknown_to_editor(other, instruction) == ()


def test_many_unknown_words_are_one_sentence() -> None:
    text = "add " + " ".join(f"word{number}" for number in range(500))
    [told] = unknown_to_editor(Settings(_env_file=None), text)
    assert len(told) < 400
    assert "492 other words" in told
