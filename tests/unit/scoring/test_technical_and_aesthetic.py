"""Faults are found where they were made, and an aesthetic head is read or refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from eacps.errors import SettingsError
from eacps.plugins import Context
from eacps.scoring.aesthetic import AestheticScorer
from eacps.scoring.technical import TechnicalScorer
from eacps.scoring.tower import clip_tower
from eacps.settings import Settings
from tests.unit.scoring.scoring_cases import bear, images, task, upper_half


def textured(size: int = 96) -> Image.Image:
    """A picture with detail everywhere."""
    noise = Image.effect_noise((size, size), 40).convert("RGB")
    return Image.blend(bear(1).resize((size, size)), noise, 0.3)


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=5)
    return Image.open(file).convert("RGB")


def pasted(image: Image.Image) -> Image.Image:
    """The part inside the mask is brighter, with a hard edge."""
    bright = image.point(lambda value: min(250, value + 60))
    return Image.composite(bright, image, upper_half(image.size))


def faults_of(edited: Image.Image, *, masked: bool = False) -> dict[str, float]:
    source = textured()
    seen = images(source, upper_half() if masked else None)
    [row] = TechnicalScorer().score(task(), seen, [edited])
    return dict(row)


@pytest.fixture(autouse=True)
def _same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    made = textured()
    monkeypatch.setitem(globals(), "textured", lambda: made)


def test_an_unchanged_picture_has_no_faults() -> None:
    assert set(faults_of(textured(), masked=True).values()) == {0.0}
    assert set(faults_of(textured())) == {"blur", "clipping", "blocking"}


def test_each_fault_is_found_where_it_was_made() -> None:
    blurred = faults_of(textured().filter(ImageFilter.GaussianBlur(2)))
    assert blurred["blur"] > 0.5
    assert blurred["clipping"] == 0
    hard = faults_of(textured().point(lambda value: 255 if value > 128 else value))
    assert hard["clipping"] > 0.2 > hard["blur"]
    assert faults_of(compressed(textured()))["blocking"] > 0.2 > blurred["blocking"]
    assert faults_of(pasted(textured()), masked=True)["seam"] > 0.05


def test_sizes_may_be_odd_and_tiny() -> None:
    for size in ((1, 1), (2, 3), (9, 8), (17, 5)):
        source = Image.new("RGB", size, "grey")
        [row] = TechnicalScorer().score(task(), images(source), [source.resize((64, 64))])
        assert all(0 <= value <= 1 for value in row.values())


def context(settings: Settings, head: str) -> Context:
    return Context(settings, "cpu", AestheticScorer.Options(head=head))


def test_an_aesthetic_head_weighs_the_vectors_of_clip(settings: Settings, tmp_path: Path) -> None:
    tower = clip_tower(settings.clip, "cpu")
    edited = [bear(1), bear(2)]
    vectors = tower.features(edited).vectors
    weight = torch.arange(vectors.shape[1], dtype=torch.float32)[None] / 100
    save_file({"weight": weight, "bias": torch.tensor([5.0])}, tmp_path / "head.safetensors")
    scorer = AestheticScorer.load(context(settings, str(tmp_path / "head.safetensors")))
    found = [row["aesthetic"] for row in scorer.score(task(), images(bear(1)), edited)]
    assert found == pytest.approx((vectors @ weight[0] + 5).tolist(), abs=1e-4)


def test_a_head_that_is_missing_or_does_not_fit_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no weights")
    for head, words in (("", "has no head"), (str(other), "is no aesthetic head")):
        with pytest.raises(SettingsError, match=words):
            AestheticScorer.load(context(settings, head))
    save_file({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, tmp_path / "small.safetensors")
    scorer = AestheticScorer.load(context(settings, str(tmp_path / "small.safetensors")))
    with pytest.raises(SettingsError, match="reads vectors of 3 numbers"):
        scorer.score(task(), images(bear(1)), [bear(1)])
