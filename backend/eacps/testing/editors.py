"""What the runner relies on in an editor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eacps.domain import EditTask, Noise, Trial
from eacps.editors import open_editor
from eacps.editors.protocol import Editor, Render
from eacps.images import TaskImages
from eacps.settings import Settings, load_settings
from eacps.testing.contract import ContractError, edit_tasks, picture, require

LEVELS = 2
"""By how many of 255 levels pixels may differ where they should be equal: rounding on a GPU."""


class _StoppedError(Exception):
    pass


def check_editor(
    editor: str | Editor, settings: Settings | None = None, *, levels: int = LEVELS
) -> None:
    """Render a handful of trials of every kind of task, in batches, alone, and with pauses.

    `editor` is what EACPS_EDITOR may say, or an editor that is loaded already.
    """
    settings = settings or load_settings()
    if isinstance(editor, str):
        editor = open_editor(settings.model_copy(update={"editor": editor}), "cpu")
    require(isinstance(editor.name, str) and bool(editor.name), "it has no name for the cards")
    for task, images in edit_tasks():
        _renders_in_order(editor, task, images)
    task, images = edit_tasks()[0]
    _repeats_itself(editor, task, images, levels)
    _hears_what_a_tick_raises(editor, task, images, levels)
    _goes_on_after_a_pause(editor, task, images, settings.steps, levels)


def _trials(*seeds: int) -> list[Trial]:
    return [Trial(f"c{index + 1}", Noise(seed)) for index, seed in enumerate(seeds)]


def _pixels(render: Render) -> NDArray[np.int16]:
    if render.image is None:
        raise ContractError(f"{render.trial.id} failed: {render.failure}")
    return np.asarray(render.image, dtype=np.int16)


def _near(one: Render, other: Render, levels: int) -> bool:
    first, second = _pixels(one), _pixels(other)
    return first.shape == second.shape and int(np.abs(first - second).max()) <= levels


def _renders_in_order(editor: Editor, task: EditTask, images: TaskImages) -> None:
    session = editor.open(task, images)
    require(list(session.advance([])) == [], "no trials do not give an empty list")
    asked = _trials(4, 5, 6)
    renders = session.advance(asked)
    require([one.trial for one in renders] == asked, "renders are not in the order of the trials")
    for one in renders:
        image = one.image
        good = isinstance(image, Image.Image) and image.mode == "RGB"
        require(good, f"{one.trial.id} is no RGB image: {image or one.failure!r}")
        require(one.nfe > 0, f"{one.trial.id} states no cost: its nfe is {one.nfe}")
        require(one.state is None, f"{one.trial.id} is finished, but has a state")
    sizes = {one.image.size for one in renders if one.image}
    require(len(sizes) == 1, f"images of one task differ in size: {sorted(sizes)}")


def _repeats_itself(editor: Editor, task: EditTask, images: TaskImages, levels: int) -> None:
    asked = _trials(1, 2, 3)
    session = editor.open(task, images)
    together = session.advance(asked)
    for one in together:
        (alone,) = editor.open(task, images).advance([one.trial])
        require(_near(one, alone, levels), f"{one.trial.id} looks different in a batch and alone")
    require(not _near(together[0], together[1], 0), "two seeds give one image")
    moved = replace(asked[0], id="c4", noise=asked[0].noise.moved(0.8, 9))
    (child,) = session.advance([moved])
    require(not _near(together[0], child, 0), "a moved noise gives the image of its parent")
    other = TaskImages(picture().rotate(90))
    editor.open(task, other).advance(asked[:1])
    (again,) = session.advance(asked[:1])
    require(_near(together[0], again, levels), "another session changes what an open one renders")


def _hears_what_a_tick_raises(
    editor: Editor, task: EditTask, images: TaskImages, levels: int
) -> None:
    def stop() -> None:
        raise _StoppedError

    session = editor.open(task, images)
    (before,) = session.advance(_trials(1))
    try:
        session.advance(_trials(1, 2), stop)
    except _StoppedError:
        (after,) = session.advance(_trials(1))
        require(_near(before, after, levels), "after a cancelled batch it renders other images")
        return
    raise ContractError("what `tick` raises does not end the batch: nothing can be cancelled")


def _goes_on_after_a_pause(
    editor: Editor, task: EditTask, images: TaskImages, steps: int, levels: int
) -> None:
    if steps < 2:
        return
    trial, middle = _trials(7)[0], steps // 2
    (whole,) = editor.open(task, images).advance([trial])
    (paused,) = editor.open(task, images).advance([replace(trial, to_step=middle)])
    if paused.failure is not None:
        # Strategies then go without pauses; a wrong preview would mislead them.
        require(paused.failure.code == "cannot_pause", f"a pause failed: {paused.failure.message}")
        return
    _resumes(editor, task, images, whole, paused, levels)


def _resumes(
    editor: Editor,
    task: EditTask,
    images: TaskImages,
    whole: Render,
    paused: Render,
    levels: int,
) -> None:
    require(paused.image is not None, "a paused trial has no preview")
    require(isinstance(paused.state, bytes), "a paused trial has no state to go on from")
    states = {whole.trial.id: paused.state}
    (resumed,) = editor.open(task, images).advance([whole.trial], states=states)
    require(_near(whole, resumed, levels), "paused and resumed, a trial ends with another image")
    total = paused.nfe + resumed.nfe
    require(total == whole.nfe, f"in two parts a render costs {total} instead of {whole.nfe}")
    lost: Sequence[Render] = editor.open(task, images).advance(
        [whole.trial], states={whole.trial.id: None}
    )
    require(_near(whole, lost[0], levels), "a trial whose state is lost is not begun again")
