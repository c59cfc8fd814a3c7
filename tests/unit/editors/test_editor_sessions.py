"""What a session does when all goes well, and when memory, numbers or people interfere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from eacps.errors import CancelledError
from eacps.images import TaskImages
from tests.unit.editors.editor_cases import (
    SIDE,
    images,
    memory_for,
    picture,
    segments,
    task,
    trials,
)

NAME = "flux2_klein"
pytestmark = pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")


def pixels(render: Any) -> NDArray[np.int_]:
    return np.asarray(render.image, dtype=int)


def test_renders_come_in_the_order_of_the_trials_as_rgb_at_working_size(editors: Any) -> None:
    asked = trials(4, 5, 6)
    renders = editors[NAME].open(task(), images((300, 300))).advance(asked)
    assert [render.trial for render in renders] == asked
    assert {(r.image.size, r.image.mode) for r in renders} == {((SIDE, SIDE), "RGB")}


def test_no_trials_are_no_work(editors: Any) -> None:
    assert editors[NAME].open(task(), images()).advance([]) == []


def test_when_memory_is_short_the_batch_is_halved_until_it_fits(editors: Any) -> None:
    editor = editors[NAME]
    asked = trials(1, 2, 3, 4, 5)
    calm = editor.open(task(), images()).advance(asked)
    session = editor.open(task(), images())
    with memory_for(editor, rows=2):
        pressed = session.advance(asked)
        again = session.advance(asked)
    for one, other in zip(calm, pressed, strict=True):
        assert one.trial == other.trial
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
    assert all(render.nfe > calm[0].nfe for render in pressed), "wasted passes are counted too"
    assert all("at once instead of 5" in render.notes[0] for render in pressed)
    assert not any(render.notes for render in calm)
    assert [render.nfe for render in again] == [calm[0].nfe] * 5, "the size that fits is kept"


def test_when_not_even_one_fits_each_trial_fails_and_says_what_to_change(editors: Any) -> None:
    session = editors[NAME].open(task(), images())
    with memory_for(editors[NAME], rows=0):
        renders = session.advance(trials(1, 2))
    assert len(renders) == 2
    for render in renders:
        assert render.image is None
        for setting in ("EACPS_BATCH_SIZE", "EACPS_MAX_SIDE", "EACPS_OFFLOAD"):
            assert setting in render.failure.message


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_numbers_that_are_no_colours_fail_their_own_trial_only(editors: Any, poison: float) -> None:
    def spoil(module: Any, args: Any, output: Any) -> Any:
        output[0][1] = poison
        return output

    session = editors[NAME].open(task(), images())
    healthy = session.advance(trials(1, 2, 3))
    hook = editors[NAME].family.pipe.transformer.register_forward_hook(spoil)
    renders = session.advance(trials(1, 2, 3))
    hook.remove()
    assert [render.failure is None for render in renders] == [True, False, True]
    assert renders[1].failure.code == "editor_nan"
    assert np.abs(pixels(renders[2]) - pixels(healthy[2])).max() <= 1


def test_every_step_ticks(editors: Any, demo: Any) -> None:
    for editor, steps in ((editors[NAME], 3), (demo, 12)):
        ticks: list[int] = []
        editor.open(task(), images()).advance(trials(1, 2), lambda ticks=ticks: ticks.append(1))
        assert len(ticks) == steps


def test_cancelling_passes_through_and_leaves_the_session_usable(editors: Any) -> None:
    def cancel() -> None:
        raise CancelledError("Cancelled.")

    session = editors[NAME].open(task(), images())
    before = pixels(session.advance(trials(1))[0])
    with pytest.raises(CancelledError):
        session.advance(trials(1, 2), cancel)
    assert np.array_equal(pixels(session.advance(trials(1))[0]), before)


def test_sessions_of_different_tasks_do_not_mix(editors: Any) -> None:
    editor = editors[NAME]
    one, other = (
        editor.open(task(), images()),
        editor.open(task(), TaskImages(picture().rotate(90))),
    )
    first = one.denoise(segments(1)).images
    assert not torch.equal(other.denoise(segments(1)).images, first)
    assert torch.equal(one.denoise(segments(1)).images, first)


def test_the_demo_editor_is_loaded_by_the_class_that_loads_production_pipelines(
    demo: Any, editors: Any
) -> None:
    assert type(demo) is type(editors["instruct_pix2pix"])
    assert type(demo.family) is type(editors["instruct_pix2pix"].family)
    assert demo.name == "InstructPix2Pix · editor-early"


def test_an_enlarged_demo_scene_is_worked_on_at_its_own_pixels(demo: Any) -> None:
    scene = picture((64, 64))
    shown = scene.resize((256, 256), Image.Resampling.NEAREST)
    working = demo.open(task(), TaskImages(shown)).inputs.source
    assert np.array_equal(np.asarray(working), np.asarray(scene))


def test_demo_attempts_differ_from_each_other_and_repeat_exactly(demo: Any) -> None:
    session = demo.open(task("give the bear a red hat"), images((256, 256)))
    first, second = session.advance(trials(1, 2))
    assert np.abs(pixels(first) - pixels(second)).mean() > 0.5
    repeated = demo.open(task("give the bear a red hat"), images((256, 256))).advance(trials(1, 2))
    assert np.array_equal(pixels(repeated[1]), pixels(second))
    assert first.nfe == 24


def test_a_task_may_ask_for_another_number_of_steps(editors: Any) -> None:
    editor = editors[NAME]
    longer = replace(task(), settings={"steps": 2 * editor.settings.steps})
    [usual] = editor.open(task(), images()).advance(trials(1))
    [more] = editor.open(longer, images()).advance(trials(1))
    assert more.nfe == 2 * usual.nfe
    assert np.abs(pixels(more) - pixels(usual)).max() > 0
