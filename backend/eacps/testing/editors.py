"""Checks an editor."""

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
"""Equal images may differ by this many of 255 levels, because GPUs round differently."""


class _StoppedError(Exception):
    pass


def check_editor(
    editor: str | Editor, settings: Settings | None = None, *, levels: int = LEVELS
) -> None:
    """Render a few trials of every kind of task: in batches, alone, and with pauses.

    `editor` is a value of EACPS_EDITOR or a loaded editor.
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
    require(
        list(session.advance([])) == [], "without trials, advance() does not return an empty list"
    )
    asked = _trials(4, 5, 6)
    renders = session.advance(asked)
    require([one.trial for one in renders] == asked, "renders are not in the order of their trials")
    for one in renders:
        image = one.image
        good = isinstance(image, Image.Image) and image.mode == "RGB"
        require(good, f"{one.trial.id} is not an RGB image: {image or one.failure!r}")
        require(one.nfe > 0, f"the nfe of {one.trial.id} is not positive: {one.nfe}")
        require(one.state is None, f"{one.trial.id} is finished, but has a state")
    sizes = {one.image.size for one in renders if one.image}
    require(len(sizes) == 1, f"images of one task differ in size: {sorted(sizes)}")


def _repeats_itself(editor: Editor, task: EditTask, images: TaskImages, levels: int) -> None:
    asked = _trials(1, 2, 3)
    session = editor.open(task, images)
    together = session.advance(asked)
    for one in together:
        (alone,) = editor.open(task, images).advance([one.trial])
        require(
            _near(one, alone, levels), f"{one.trial.id} differs between a batch and a single render"
        )
    require(not _near(together[0], together[1], 0), "two seeds give the same image")
    moved = replace(asked[0], id="c4", noise=asked[0].noise.moved(0.8, 9))
    (child,) = session.advance([moved])
    require(not _near(together[0], child, 0), "a moved noise gives the same image as its parent")
    other = TaskImages(picture().rotate(90))
    editor.open(task, other).advance(asked[:1])
    (again,) = session.advance(asked[:1])
    require(_near(together[0], again, levels), "another session changes the renders of an open one")


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
        require(_near(before, after, levels), "its renders change after a cancelled batch")
        return
    raise ContractError(
        "an exception from `tick` does not end the batch, so nothing can be cancelled"
    )


def _goes_on_after_a_pause(
    editor: Editor, task: EditTask, images: TaskImages, steps: int, levels: int
) -> None:
    if steps < 2:
        return
    trial, middle = _trials(7)[0], steps // 2
    (whole,) = editor.open(task, images).advance([trial])
    (paused,) = editor.open(task, images).advance([replace(trial, to_step=middle)])
    if paused.failure is not None:
        # Then strategies do without pauses, whereas a wrong preview would mislead them.
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
    require(isinstance(paused.state, bytes), "a paused trial has no state")
    states = {whole.trial.id: paused.state}
    (resumed,) = editor.open(task, images).advance([whole.trial], states=states)
    require(_near(whole, resumed, levels), "a paused and resumed trial ends with a different image")
    total = paused.nfe + resumed.nfe
    require(total == whole.nfe, f"a paused and resumed render costs {total} instead of {whole.nfe}")
    lost: Sequence[Render] = editor.open(task, images).advance(
        [whole.trial], states={whole.trial.id: None}
    )
    require(
        _near(whole, lost[0], levels),
        "a trial with a lost state is not rendered from the beginning",
    )
