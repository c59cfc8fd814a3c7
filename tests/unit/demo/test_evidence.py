"""What the verifier learns from: labels that say what pictures show, and batches that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from demo.manifest import PACK
from demo.oracle import acceptable
from demo.tensors import to_array, to_tensor
from demo.training.autoencoder import Autoencoder
from demo.training.evidence import (
    UNKNOWN,
    EvidenceFolder,
    Rendered,
    Rows,
    calm,
    joined,
    write_evidence,
)
from demo.training.recipe import Recipe, VerifierRecipe
from demo.training.tokenizer import CONTEXT, load_tokenizer
from eacps.demo.bears import render
from eacps.demo.tasks import demo_tasks


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("renders")
    recipe = replace(VerifierRecipe.quick(), rendered_tasks=32)
    editor = PACK / "editor"
    words = load_tokenizer(editor / "tokenizer")
    Rendered(recipe, Autoencoder(editor / "vae"), words).write(folder, lambda: None)
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Four tasks of two attempts each; every picture says which task it belongs to."""

    def fill(_number: int, count: int) -> Rows:
        ramp = numpy.arange(64, dtype=numpy.uint8)[None, None, :, None]
        pictures = numpy.arange(count, dtype=numpy.uint8)[:, None, None, None] * 50 + ramp
        return {
            "sources": pictures,
            "views": pictures[:, None, None],
            "progress": [0.5, 1.0],
            "labels": 1.0,
            "ids": numpy.arange(count)[:, None],
        }

    write_evidence(tmp_path, 4, 2, 2, fill, lambda: None)
    return tmp_path


def test_only_change_outside_the_edit_counts_as_unrest() -> None:
    for task in demo_tasks(12, seed=23, size=64):
        source = to_tensor(to_array([task.source]))[0]
        scenes = [acceptable(task, 1, seed=3)[0], replace(task.after, pose=task.before.pose)]
        moved = replace(task.after, pose=replace(task.before.pose, x=task.before.pose.x + 4))
        pictures = to_tensor(to_array([render(scene) for scene in (*scenes, moved)]))
        equal, right, elsewhere = calm(task, source, pictures).tolist()
        assert min(equal, right) > 0.9
        assert elsewhere < min(equal, right)


def test_renders_show_right_edits_wrong_ones_and_ruins(renders: Path) -> None:
    labels = numpy.load(renders / "labels.npy").reshape(-1, 3)
    satisfied, preserved, intact = (labels > 0.5).T
    assert (satisfied & preserved).any()
    assert (satisfied & ~preserved).any()
    assert (~satisfied & preserved).any()
    assert not labels[~intact].any()
    assert not intact.all()


def test_the_same_recipe_renders_the_same(renders: Path, tmp_path: Path) -> None:
    recipe = replace(VerifierRecipe.quick(), rendered_tasks=16)
    editor = PACK / "editor"
    words = load_tokenizer(editor / "tokenizer")
    Rendered(recipe, Autoencoder(editor / "vae"), words).write(tmp_path, lambda: None)
    for name in ("views", "labels", "ids"):
        again, before = (numpy.load(folder / f"{name}.npy") for folder in (tmp_path, renders))
        assert (again == before[:16]).all()


def test_a_batch_holds_pairs_of_attempts_with_the_words_and_labels_of_their_task(
    plain: Path,
) -> None:
    batch = EvidenceFolder(plain, seed=1).draw(64)
    shade = ((batch.source.amin((1, 2, 3)) + 1) * 127.5 / 50).round().long()
    assert (batch.ids == shade[:, None].expand(-1, CONTEXT)).all()
    assert (shade[::2] == shade[1::2]).all()
    assert set(batch.progress.tolist()) == {UNKNOWN, 0.5, 1.0}


def test_source_and_edit_are_mirrored_together(plain: Path) -> None:
    batch = EvidenceFolder(plain, seed=2).draw(64)
    assert torch.equal(batch.source, batch.edited)
    rising = batch.source[:, 0, 0, 0] < batch.source[:, 0, 0, -1]
    assert rising.any()
    assert not rising.all()


def test_batches_join_in_order(plain: Path, renders: Path) -> None:
    parts = [EvidenceFolder(plain, seed=3).draw(4), EvidenceFolder(renders, seed=3).draw(6)]
    whole = joined(parts)
    assert len(whole.targets) == 10
    assert torch.equal(whole.edited[:4], parts[0].edited)
    assert torch.equal(whole.targets[4:], parts[1].targets)


def test_no_seed_of_the_verifier_is_one_of_the_oracles() -> None:
    def seeds(recipe: Recipe | VerifierRecipe) -> set[int]:
        stages = [value for value in vars_of(recipe).values() if hasattr(value, "seed")]
        numbers = {name: value for name, value in vars_of(recipe).items() if name.endswith("_seed")}
        return {stage.seed for stage in stages} | set(numbers.values())

    def vars_of(recipe: Recipe | VerifierRecipe) -> dict[str, Any]:
        return {name: getattr(recipe, name) for name in recipe.__slots__}

    assert not seeds(Recipe()) & seeds(VerifierRecipe())
