"""Names for what results depend on: each setting counts where it is used; and the same in words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from eacps.fingerprints import (
    FACES,
    JUDGE,
    RENDER,
    SEARCH,
    equipment,
    equipment_words,
    judged,
    rendered,
)
from eacps.settings import DEMO_PACK, Settings, changes_results


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


def test_every_setting_that_changes_results_counts_somewhere() -> None:
    counted = {*SEARCH, *RENDER, *FACES, *JUDGE, "plugin_options"}
    assert counted == {
        name for name, field in Settings.model_fields.items() if changes_results(field)
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"strategy": "best_of_n"}, set()),
        ({"seed": 3}, set()),
        ({"steps": 7}, {"equipment", "edit", "character"}),
        ({"face_mark": "visible"}, {"equipment", "judged", "face_swap", "character"}),
        ({"weights": {"pf": 1.0}}, {"equipment", "judged"}),
        ({"clip": "ViT-B-32/openai"}, {"equipment", "judged"}),
        ({"devices": ("cpu",), "port": 9, "offload": "model"}, set()),
    ],
)
def test_a_setting_counts_for_what_it_decides(changes: dict[str, Any], expected: set[str]) -> None:
    def named(chosen: Settings) -> dict[str, str]:
        return {
            "equipment": equipment(chosen),
            "judged": judged(chosen),
            "edit": rendered(chosen, "edit"),
            "face_swap": rendered(chosen, "face_swap"),
            "character": rendered(chosen, "character"),
        }

    before, after = named(settings()), named(settings(**changes))
    assert {name for name in before if before[name] != after[name]} == expected


def test_weights_count_by_what_they_are_and_not_by_where_they_lie(tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(DEMO_PACK / "verifier", tmp_path / name)
    one, other = (settings(verifier=str(tmp_path / name)) for name in ("one", "other"))
    assert judged(one) == judged(other)
    os.truncate(tmp_path / "other" / "model.safetensors", 100)
    assert judged(one) != judged(other)


def test_several_verifiers_count_each_and_in_any_spelling_of_the_list(tmp_path: Path) -> None:
    pack = str(DEMO_PACK / "verifier")
    shutil.copytree(pack, tmp_path / "other")
    os.truncate(tmp_path / "other" / "model.safetensors", 100)
    both = judged(settings(verifier=f"{pack},{tmp_path / 'other'}"))
    assert both == judged(settings(verifier=f"{pack} , {tmp_path / 'other'}"))
    assert both not in {judged(settings(verifier=pack)), judged(settings())}


def test_a_worker_is_described_by_what_it_has_loaded() -> None:
    words = equipment_words(settings())
    assert words == (
        "editor editor-early, clip clip, verifier verifier, 12 steps, guidance 2, 1024 px, "
        "potential eacps"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"editor": "Qwen/Qwen-Image-Edit"}, "editor Qwen/Qwen-Image-Edit,"),
        ({"editor": "/secret/place/bears/"}, "editor bears,"),
        ({"editor": "~/secret/bears"}, "editor bears,"),
        ({"clip": "ViT-B-32/openai"}, "clip ViT-B-32/openai,"),
        ({"verifier": "secret/mine.py:Strict"}, "verifier Strict,"),
        ({"steps": 40, "guidance": 4.5, "max_side": 512}, "40 steps, guidance 4.5, 512 px"),
        ({"potential": "weighted", "weights": {"pf": 1.0}}, "potential weighted"),
    ],
)
def test_what_tells_workers_apart_is_in_their_words(changes: dict[str, Any], words: str) -> None:
    told = equipment_words(settings(**changes))
    assert words in told
    assert "secret" not in told, "where it lies on this machine is nobody's business"


def test_several_verifiers_are_told_each(tmp_path: Path) -> None:
    told = equipment_words(settings(verifier=f"{tmp_path}/judge,mine.py:Strict"))
    assert "verifier judge and Strict," in told


def test_without_a_verifier_none_is_named() -> None:
    assert "verifier" not in equipment_words(settings(verifier=""))
