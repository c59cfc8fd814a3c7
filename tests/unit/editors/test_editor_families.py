"""Every family renders what its plain pipeline renders: batched, cached, the same every time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from eacps.editors.families.qwen_edit import mark_image_tokens
from eacps.errors import EditorError
from eacps.images import TaskImages
from tests.tiny_pipelines import BUILDERS
from tests.unit.editors.editor_cases import (
    SIDE,
    images,
    opened,
    picture,
    segments,
    task,
    tiny_settings,
    trials,
)

SIZE = {"height": SIDE, "width": SIDE}
QWEN = {**SIZE, "true_cfg_scale": 3.0, "negative_prompt": " "}
PLAIN: dict[str, dict[str, Any]] = {
    "instruct_pix2pix": {"guidance_scale": 3.0, "image_guidance_scale": 1.5},
    "qwen_edit": QWEN,
    "qwen_edit_plus": QWEN,
    "qwen_edit_2511": QWEN,
    "flux_kontext": {
        **SIZE,
        "guidance_scale": 3.0,
        "max_area": SIDE**2,
        "_auto_resize": False,
    },
    "flux2_klein": {**SIZE, "guidance_scale": 3.0},
}
PASSES_PER_STEP = {"instruct_pix2pix": 3, "flux_kontext": 1}
pytestmark = pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")
every_family = pytest.mark.parametrize("name", BUILDERS)


def plain_call(folder: Any, name: str, seed: int, **changes: Any) -> torch.Tensor:
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if name.startswith("qwen"):
        pipe.text_encoder.register_forward_pre_hook(mark_image_tokens, with_kwargs=True)
    arguments = {"image": picture(), **PLAIN[name], **changes}
    image: torch.Tensor = pipe(
        prompt=task().instruction,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
        **arguments,
    ).images[0]
    return image


@every_family
def test_a_seed_in_a_batch_is_the_image_that_the_plain_pipeline_makes(
    name: str, folders: Any, editors: Any
) -> None:
    session = editors[name].open(task(), images())
    session.denoise(segments(8, 9))
    batched = session.denoise(segments(1, 2, 3)).images
    plain = plain_call(folders[name], name, seed=2)
    assert float((batched[1] - plain).abs().max()) < 1e-4
    assert float((batched[0] - batched[1]).abs().max()) > 0.1, "the seeds must differ visibly"


@every_family
def test_alone_or_in_a_batch_of_four_a_trial_gives_the_same_image(name: str, editors: Any) -> None:
    session = editors[name].open(task(), images())
    batch = session.denoise(segments(1, 2, 3, 4)).images
    alone = session.denoise(segments(3)).images
    assert float((batch[2] - alone[0]).abs().max()) < 1e-5


@every_family
def test_two_sessions_agree_to_the_last_bit(name: str, editors: Any) -> None:
    first, second = (editors[name].open(task(), images()) for _ in range(2))
    assert torch.equal(first.denoise(segments(1, 2)).images, second.denoise(segments(1, 2)).images)


@every_family
def test_the_instruction_matters(name: str, editors: Any) -> None:
    one, other = (
        editors[name].open(task(words), images()).denoise(segments(1)).images
        for words in ("make the circle green", "paint everything black")
    )
    assert float((one - other).abs().max()) > 1e-4


@every_family
def test_prompt_and_image_are_encoded_once_for_all_batches(name: str, editors: Any) -> None:
    pipe = editors[name].family.pipe
    calls: list[str] = []
    hooks = [
        pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append("text")),
        pipe.vae.encoder.register_forward_pre_hook(lambda *_: calls.append("image")),
    ]
    session = editors[name].open(task(), images())
    texts = calls.count("text")
    for seed in range(3):
        session.advance(trials(seed, seed + 10))
    for hook in hooks:
        hook.remove()
    assert calls.count("text") == texts > 0
    assert calls.count("image") == 1


@every_family
def test_the_cost_is_counted_in_denoiser_passes_per_image(name: str, editors: Any) -> None:
    renders = editors[name].open(task(), images()).advance(trials(1, 2))
    assert [render.nfe for render in renders] == [3 * PASSES_PER_STEP.get(name, 2)] * 2


@every_family
def test_a_wide_picture_keeps_its_shape(name: str, editors: Any) -> None:
    session = editors[name].open(task(), images((200, 100)))
    (render,) = session.advance(trials(1))
    shorter = max(SIDE // 2, editors[name].family.min_short_side)
    assert session.inputs.source.size == render.image.size == (shorter * 2, shorter)


def test_a_strip_that_the_pipeline_would_refuse_is_refused_in_words(editors: Any) -> None:
    with pytest.raises(EditorError, match="Crop"):
        editors["flux2_klein"].open(task(), images((1000, 50)))


@pytest.mark.parametrize("name", ["qwen_edit_plus", "flux2_klein"])
def test_a_reference_picture_is_seen(name: str, folders: Any, editors: Any) -> None:
    reference = picture().rotate(180)
    session = editors[name].open(task(), TaskImages(picture(), references=(reference,)))
    seen = session.denoise(segments(2)).images[0]
    plain = plain_call(folders[name], name, seed=2, image=[picture(), reference])
    assert float((seen - plain).abs().max()) < 1e-4
    without = editors[name].open(task(), images()).denoise(segments(2)).images[0]
    assert float((seen - without).abs().max()) > 1e-4


def test_qwen_places_image_tokens_on_a_grid_only_with_the_fix(editors: Any, folders: Any) -> None:
    plain = DiffusionPipeline.from_pretrained(folders["qwen_edit_plus"])
    prepared = editors["qwen_edit_plus"].family.pipe
    words, seen = task().instruction, [picture()]
    with torch.no_grad():
        without, _ = plain.encode_prompt(words, image=seen)
        having, _ = prepared.encode_prompt(words, image=seen)
        plain.text_encoder.register_forward_pre_hook(mark_image_tokens, with_kwargs=True)
        now, _ = plain.encode_prompt(words, image=seen)
    assert float((without - having).abs().max()) > 1e-3
    assert torch.equal(now, having)


def test_at_image_guidance_one_a_third_of_the_passes_is_saved_and_the_image_stays(
    folders: Any,
) -> None:
    editor = opened(tiny_settings(folders["instruct_pix2pix"], image_guidance=1.0))
    session = editor.open(task(), images())
    plain = plain_call(
        folders["instruct_pix2pix"], "instruct_pix2pix", seed=2, image_guidance_scale=1.0
    )
    saved = session.denoise(segments(1, 2)).images[1]
    assert float((saved - plain).abs().max()) < 1e-4
    assert session.advance(trials(1))[0].nfe == 3 * 2


def test_without_guidance_a_step_costs_one_pass(folders: Any) -> None:
    for name in ("instruct_pix2pix", "qwen_edit_plus", "flux2_klein"):
        editor = opened(tiny_settings(folders[name], guidance=1.0))
        assert editor.open(task(), images()).advance(trials(1))[0].nfe == 3


def test_kontext_takes_true_guidance_from_the_pipeline_arguments(folders: Any) -> None:
    changes = {"true_cfg_scale": 2.0, "max_sequence_length": 32}
    settings = tiny_settings(folders["flux_kontext"], pipeline_args=changes)
    session = opened(settings).open(task(), images())
    plain = plain_call(
        folders["flux_kontext"], "flux_kontext", seed=1, negative_prompt=" ", **changes
    )
    assert float((session.denoise(segments(1)).images[0] - plain).abs().max()) < 1e-4
    assert session.advance(trials(1))[0].nfe == 3 * 2
