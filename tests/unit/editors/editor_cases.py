"""Settings, tasks, pictures and trials for the editors' tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from eacps.domain import EditTask, Noise, Trial
from eacps.editors import open_editor
from eacps.editors.diffusers.editor import DiffusersEditor
from eacps.editors.diffusers.segments import Segment
from eacps.images import TaskImages
from eacps.settings import Settings

SIDE = 64


def tiny_settings(folder: Path, **changes: Any) -> Settings:
    """Settings for a tiny editor."""
    defaults: dict[str, Any] = {
        "editor": str(folder),
        "steps": 3,
        "max_side": SIDE,
        "guidance": 3.0,
        "image_guidance": 1.5,
    }
    return Settings(_env_file=None, **(defaults | changes))


@contextmanager
def memory_for(editor: Any, rows: int) -> Iterator[None]:
    """A device with memory for only this many rows."""

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        if len(kwargs["hidden_states"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    hook = editor.family.pipe.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def opened(settings: Settings) -> DiffusersEditor:
    """Open the editor of these settings as a DiffusersEditor, to access its internals."""
    editor = open_editor(settings, "cpu")
    assert isinstance(editor, DiffusersEditor)
    return editor


def task(instruction: str = "make the circle green") -> EditTask:
    """A task whose images are passed separately."""
    return EditTask(image="a", instruction=instruction)


def picture(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A circle and a box."""
    image = Image.new("RGB", size, (200, 220, 240))
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.ellipse([width // 5, height // 5, width * 3 // 5, height * 3 // 5], fill=(220, 40, 40))
    draw.rectangle([width // 2, height // 2, width - 4, height - 4], fill=(40, 90, 200))
    return image


def images(size: tuple[int, int] = (SIDE, SIDE)) -> TaskImages:
    """A task's images, without mask or reference."""
    return TaskImages(picture(size))


def trials(*seeds: int) -> list[Trial]:
    """One trial per seed."""
    return [Trial(f"c{index}", Noise(seed)) for index, seed in enumerate(seeds)]


def segments(*seeds: int) -> list[Segment]:
    """One whole render per seed."""
    return [Segment(trial) for trial in trials(*seeds)]
