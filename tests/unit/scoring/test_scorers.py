"""The metrics of the demo's images, with the demo pack's CLIP."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from eacps.demo.bears import describe, random_scene, render
from eacps.domain import EditTask
from eacps.errors import EacpsError, ScoringError, SettingsError
from eacps.plugins import Context
from eacps.scoring import Potential, open_scorers
from eacps.scoring import lpips_trunks as trunks
from eacps.scoring.clip import ClipScorer
from eacps.scoring.lpips import LpipsScorer
from eacps.scoring.region import RegionScorer
from eacps.scoring.tower import clip_tower
from eacps.settings import Settings
from tests.unit.scoring.scoring_cases import bear, images, task, upper_half, with_hat

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated since 0.13:UserWarning")


@pytest.fixture
def clip(settings: Settings) -> ClipScorer:
    return ClipScorer.load(Context(settings))


@pytest.fixture
def lpips(settings: Settings) -> LpipsScorer:
    return LpipsScorer.load(Context(settings))


def scored(scorer: Any, task_images: Any, *edited: Image.Image) -> list[Any]:
    return list(scorer.score(task(), task_images, edited, [1.0] * len(edited)))


def test_an_unchanged_image_is_consistent_and_has_distance_zero(
    clip: ClipScorer, lpips: LpipsScorer, source: Image.Image
) -> None:
    (seen,) = scored(clip, images(source), source.copy())
    assert seen["cons"] == pytest.approx(1, abs=1e-5)
    assert seen["pf_dir"] == pytest.approx(0, abs=1e-3)
    assert scored(lpips, images(source), source.copy())[0]["lpips"] == pytest.approx(0, abs=1e-6)


def test_larger_changes_are_less_consistent(
    clip: ClipScorer, lpips: LpipsScorer, source: Image.Image
) -> None:
    edits = (with_hat(source), bear(2))
    little, much = scored(clip, images(source), *edits)
    assert 1 > little["cons"] > much["cons"]
    near, far = scored(lpips, images(source), *edits)
    assert 0 < near["lpips"] < far["lpips"]


def test_doing_what_was_asked_follows_the_prompt_better_than_doing_nothing(
    clip: ClipScorer, source: Image.Image
) -> None:
    random = Random(3)
    bare = random_scene(random, empty=1.0)
    others = (random_scene(random, empty=1.0) for _ in range(100))
    done, words = next(
        (after, words)
        for other in others
        if "beach"
        in (
            words := describe(
                bare, after := replace(bare, background=other.background), random
            ).text
        )
    )
    asked = EditTask(image="a", instruction=words)
    before = render(bare)
    nothing, right = clip.score(asked, images(before), [before.copy(), render(done)])
    assert right["pf"] > nothing["pf"]
    assert right["pf_dir"] > 0.1


def test_images_get_the_same_scores_in_a_batch_and_alone(
    clip: ClipScorer, lpips: LpipsScorer, source: Image.Image
) -> None:
    edits = [with_hat(source, colour) for colour in ("red", "blue", "gold")]
    for mask in (None, upper_half()):
        for scorer in (clip, lpips):
            name = f"m{mask is None}"
            batch = scorer.score(task(name), images(source, mask), edits)
            for edit, together in zip(edits, batch, strict=True):
                (alone,) = scorer.score(task(name), images(source, mask), [edit])
                assert alone == pytest.approx(together, abs=1e-5)


def test_with_a_mask_changes_inside_it_do_not_count_against_an_edit(
    clip: ClipScorer, lpips: LpipsScorer, source: Image.Image
) -> None:
    masked = images(source, upper_half())
    hat = with_hat(source)
    elsewhere = source.copy()
    elsewhere.paste((255, 0, 0), (20, 60, 70, 90))
    for scorer, name, kept in ((clip, "cons", 1.0), (lpips, "lpips", 0.0)):
        inside, outside = (metrics[name] for metrics in scored(scorer, masked, hat, elsewhere))
        assert inside == pytest.approx(kept, abs=0.02)
        assert abs(outside - kept) > abs(inside - kept)


def test_with_a_mask_prompt_following_includes_its_inside(
    clip: ClipScorer, source: Image.Image
) -> None:
    hat = with_hat(source)
    whole = scored(clip, images(source), hat)[0]["pf"]
    (masked,) = clip.score(task("masked"), images(source, upper_half()), [hat])
    assert masked["pf"] != pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_or_full_mask_counts_as_no_mask(
    clip: ClipScorer, lpips: LpipsScorer, source: Image.Image, value: int
) -> None:
    flat = images(source, Image.new("L", source.size, value))
    hat = with_hat(source)
    assert scored(clip, flat, hat) == scored(clip, images(source), hat)
    assert scored(lpips, flat, hat) == scored(lpips, images(source), hat)
    assert scored(RegionScorer(), flat, hat) == [{}]


def test_region_is_the_share_of_change_inside_the_mask(source: Image.Image) -> None:
    both = np.asarray(source).copy()
    both[0:10, 0:10] ^= 64
    both[80:90, 0:10] ^= 64
    masked = images(source, upper_half())
    shares = scored(RegionScorer(), masked, with_hat(source), Image.fromarray(both), source.copy())
    assert [round(share["region"], 2) for share in shares] == [1.0, 0.5, 0.0]
    assert scored(RegionScorer(), images(source), with_hat(source)) == [{}]


def test_edits_of_another_size_and_shape_are_judged_as_a_whole(
    clip: ClipScorer, lpips: LpipsScorer
) -> None:
    wide = Image.new("RGB", (200, 60), "grey")
    edge = wide.copy()
    edge.paste("red", (180, 0, 200, 60))
    mask = Image.new("L", (100, 30), 0)
    mask.paste(255, (0, 0, 30, 30))
    for given in (None, mask):
        name = f"wide{given is None}"
        for scorer in (clip, lpips):
            judged = scorer.score(task(name), images(wide, given), [edge.resize((100, 30)), wide])
            assert judged[0] != pytest.approx(judged[1], abs=1e-3), "the edge counts"


def test_nothing_to_judge_is_no_error(
    clip: ClipScorer, lpips: LpipsScorer, source: Image.Image
) -> None:
    for scorer in (clip, lpips, RegionScorer()):
        assert list(scorer.score(task(), images(source), [])) == []


def test_only_needed_scorers_and_those_that_always_run_are_opened(settings: Settings) -> None:
    def opened(*names: str, **changes: Any) -> list[str]:
        chosen = settings.model_copy(update=changes)
        return [type(scorer).__name__ for scorer in open_scorers(chosen, "cpu", names)]

    always = ["RegionScorer", "IdentityScorer"]
    assert opened(*Potential.of(settings).metric_names) == [
        *("ClipScorer", "LpipsScorer"),
        *always,
    ]
    assert opened("pf") == ["ClipScorer", "LpipsScorer", *always]
    assert opened("pf", lpips_trunk="alex") == ["ClipScorer", *always]
    assert opened("region", clip="/nowhere") == always


def test_clip_is_loaded_once_for_all_its_scorers(settings: Settings) -> None:
    assert clip_tower(settings.clip, "cpu") is clip_tower(settings.clip, "cpu")


def test_all_scorers_share_one_forward_pass(settings: Settings, source: Image.Image) -> None:
    tower = clip_tower(settings.clip, "cpu")
    forwards: list[int] = []
    hook = tower._model.visual.conv1.register_forward_pre_hook(
        lambda _, args: forwards.append(len(args[0]))
    )
    edits = [with_hat(source, colour) for colour in ("red", "green", "blue")]
    for scorer in open_scorers(settings, "cpu", ("pf", "cons", "lpips")):
        scorer.score(task("counted"), images(source), edits, [1.0] * 3)
    hook.remove()
    assert sorted(forwards) == [1, 3]


@pytest.fixture
def vision_transformer(tmp_path: Path) -> Path:
    """A folder with a tiny random ViT."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 7,
            "width": 64,
            "patch_size": 8,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    written = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(written))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    return tmp_path


def test_a_vision_transformer_works_too(vision_transformer: Path, source: Image.Image) -> None:
    settings = Settings(_env_file=None, clip=str(vision_transformer))
    clip, lpips, *_ = open_scorers(settings, "cpu", ("pf", "cons", "lpips"))
    same, hat = scored(clip, images(source), source.copy(), with_hat(source))
    assert same["cons"] == pytest.approx(1, abs=1e-5)
    assert hat["cons"] < 1
    near, far = scored(lpips, images(source, upper_half()), with_hat(source), source.rotate(180))
    assert near["lpips"] < far["lpips"]


def refusal(**changes: Any) -> str:
    with pytest.raises(EacpsError) as caught:
        open_scorers(Settings(_env_file=None, **changes), "cpu", ("pf", "lpips"))
    return str(caught.value)


def test_clip_without_weights_is_refused(settings: Settings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(settings.clip, tmp_path / "clip"))
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (folder / "manifest.json").unlink(missing_ok=True)
    assert "EACPS_CLIP" in refusal(clip=str(folder))
    weights.rename(folder / "open_clip_model.bin")
    assert "EACPS_CLIP" in refusal(clip=str(folder))


@pytest.mark.parametrize(
    "name", ["/nowhere/at/all", "no-slash", "ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/no-such-tag"]
)
def test_a_missing_clip_model_is_refused(name: str) -> None:
    assert "EACPS_CLIP" in refusal(clip=name)


def test_an_unknown_trunk_lists_the_known_ones() -> None:
    assert "squeeze" in refusal(lpips_trunk="resnet")
    with pytest.raises(SettingsError):
        LpipsScorer.load(Context(Settings(_env_file=None, lpips_trunk="resnet")))


@pytest.mark.parametrize("trunk", trunks.TRUNKS)
def test_lpips_without_its_trunk_says_which_file_and_how_to_fetch_it(
    trunk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = refusal(lpips_trunk=trunk)
    assert "EACPS_LPIPS_TRUNK" in message
    assert str(trunks.weights_file(trunk)) in message
    assert "python -c" in message
    assert not trunks.weights_file(trunk).exists(), "nothing was downloaded"


@pytest.fixture
def squeeze_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the trunk's weights, in an empty hub cache."""
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = trunks.weights_file("squeeze")
    file.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), file)
    return file


def test_lpips_refuses_a_trunk_that_is_not_the_published_one(squeeze_file: Path) -> None:
    assert "damaged" in refusal(lpips_trunk="squeeze")
    with pytest.raises(ScoringError, match="Delete"):
        trunks.require_weights("squeeze")


def test_lpips_on_a_trunk_equals_the_number_of_the_lpips_package(
    squeeze_file: Path, source: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lpips

    monkeypatch.setattr(trunks, "file_hash", lambda file: file.stem.rpartition("-")[2])
    scorer = LpipsScorer.load(Context(Settings(_env_file=None, lpips_trunk="squeeze")))
    hat = with_hat(source)
    ours, zero = scored(scorer, images(source), hat, source.copy())
    pair = [
        torch.from_numpy(np.array(each)).permute(2, 0, 1)[None] / 127.5 - 1
        for each in (source, hat)
    ]
    theirs = lpips.LPIPS(net="squeeze", verbose=False)(*pair)
    assert ours["lpips"] == pytest.approx(float(theirs.detach()), abs=1e-5)
    assert zero["lpips"] == 0
    (masked,) = scorer.score(task("masked"), images(source, upper_half()), [hat])
    assert masked["lpips"] < ours["lpips"]


def test_another_package_can_add_a_scorer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Image.Image
) -> None:
    (tmp_path / "strange_scorer.py").write_text(
        "from eacps.metric_range import MetricRange\n"
        "class Red:\n"
        "    ranges = {'red': MetricRange(worst=0, best=255)}\n"
        "    def score(self, task, images, edited, progress):\n"
        "        return [{'red': float(image.getpixel((0, 0))[0])} for image in edited]\n"
    )
    facts = tmp_path / "strange_scorer-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strange_scorer\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[eacps.scorers]\nred = strange_scorer:Red\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    potential = Potential.of(Settings(_env_file=None, potential="weighted", weights={"red": 2}))
    opened = open_scorers(Settings(_env_file=None), "cpu", potential.metric_names)
    (red,) = [scorer for scorer in opened if "red" in scorer.ranges]
    (judged,) = scored(red, images(source), Image.new("RGB", source.size, (255, 0, 0)))
    assert potential.judge(judged).value == 2

    # Without a weight it runs, for its metric to be shown, only where it is named.
    for named, count in (((), 0), (("red",), 1)):
        opened = open_scorers(Settings(_env_file=None, scorers=named), "cpu", ["pf_dir"])
        assert sum("red" in scorer.ranges for scorer in opened) == count


def test_a_clip_folder_with_code_of_its_own_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(Settings(_env_file=None).clip, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["own.OwnTokenizer", None]}
    config["tokenizer_class"] = "OwnTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')")
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("it asked"))
    assert "EACPS_CLIP" in refusal(clip=str(folder))


def test_a_clip_folder_whose_first_choice_can_run_code(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(Settings(_env_file=None).clip, folder)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    clip_tower(str(folder), "cpu")
    other = folder.rename(tmp_path / "other")
    (other / "open_clip_model.safetensors").rename(other / "weights.safetensors")
    assert "open_clip_pytorch_model.bin" in refusal(clip=str(other))
